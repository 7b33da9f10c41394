-- Money that Stripe takes back is always booked: as much of the wallet as was credited, and the rest is the reseller's.

SELECT create_organization('Acme', 'billing@acme.example') IS NOT NULL AS created;

SELECT credit.balance_after_micros FROM organizations, credit_wallet(id, 10000000, 'topup:pi_1') AS credit;

SELECT deduction.balance_after_micros
FROM organizations, deduct_call_credits(id, 'call-1', 9000000, '2026-07-01 10:00Z') AS deduction;

-- The customer disputes the whole payment, and the bank takes 12 cents more. The wallet goes past its limit of 5
-- dollars: the money is gone.
SELECT * FROM record_movements('[{"id": "txn_1", "kind": "dispute", "source_id": "dp_1", "payment_id": "pi_1",
"amount_micros": -10120000, "currency": "USD", "disputed_micros": 10120000, "disputed_currency": "USD",
"event_at": "2026-07-02Z"}]');

SELECT taken_micros, wallet_booked_micros, excess_booked_micros FROM payment_reversals;

-- The dispute is won, in two parts; the first is told twice. What exceeded the payment comes back first.
SELECT told.* FROM generate_series(1, 2), record_movements('[{"id": "txn_2", "kind": "dispute", "source_id": "dp_1",
"payment_id": "pi_1", "amount_micros": 5000000, "currency": "USD", "event_at": "2026-07-03Z"}]') AS told;

SELECT told.* FROM record_movements('[{"id": "txn_3", "kind": "dispute", "source_id": "dp_1", "payment_id": "pi_1",
"amount_micros": 5120000, "currency": "USD", "event_at": "2026-07-04Z"}]') AS told;

-- Now 4 dollars are refunded; the same refund with another amount is an error.
SELECT * FROM record_movements('[{"id": "re_1", "kind": "refund", "source_id": "re_1", "payment_id": "pi_1",
"amount_micros": -4000000, "currency": "USD", "event_at": "2026-07-05Z"}]');

SELECT * FROM record_movements('[{"id": "re_1", "kind": "refund", "source_id": "re_1", "payment_id": "pi_1",
"amount_micros": -5000000, "currency": "USD", "event_at": "2026-07-05Z"}]');

-- A refund that overtakes its payment waits for it.
SELECT * FROM record_movements('[{"id": "re_2", "kind": "refund", "source_id": "re_2", "payment_id": "pi_2",
"amount_micros": -1, "currency": "USD", "event_at": "2026-07-06Z"}]');

-- What each of it moved, in and out of the wallet.
SELECT idempotency_key, kind, amount_micros, balance_after_micros FROM wallet_statement ORDER BY wallet_sequence;
