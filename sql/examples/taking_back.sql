-- Money that Stripe takes back is always booked, and never more than was paid.

SELECT create_organization('Acme', 'billing@acme.example') IS NOT NULL AS created;

SELECT credit.balance_after_micros FROM organizations, credit_wallet(id, 10000000, 'topup:pi_1') AS credit;

SELECT deduction.balance_after_micros
FROM organizations, deduct_call_credits(id, 'call-1', 9000000, '2026-07-01 10:00Z') AS deduction;

-- The customer disputes the whole payment. The wallet goes past its limit of 5 dollars: the money is gone.
SELECT * FROM withdraw_dispute('pi_1', 'dp_1', 10000000);

-- While it is disputed, nothing is left to refund.
SELECT * FROM refund_payment('pi_1', 're_1', 1);

-- The dispute is won.
SELECT * FROM reinstate_dispute('dp_1', 10000000);

-- Now 4 dollars can be refunded; the same refund again is a duplicate, with another amount an error.
SELECT * FROM refund_payment('pi_1', 're_1', 4000000);

SELECT * FROM refund_payment('pi_1', 're_1', 4000000);

SELECT * FROM refund_payment('pi_1', 're_1', 5000000);

-- A refund that overtakes its payment is refused in a way that is worth a retry.
SELECT * FROM refund_payment('pi_2', 're_2', 1);

-- What each payment came to: credited, taken back, given back.
SELECT payment_id, kind, sum(amount_micros) AS micros
FROM transfers WHERE payment_id IS NOT NULL GROUP BY payment_id, kind ORDER BY payment_id, min(id);
