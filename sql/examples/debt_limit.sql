-- A wallet may go into debt as far as its limit; what does not fit is owed, and the next top-up pays it.

-- An organization has a wallet from the start, and may go 5 dollars into debt.
SELECT create_organization('Acme', 'billing@acme.example') IS NOT NULL AS created;

SELECT organizations.name, balance_micros, debt_limit_micros, outstanding_micros
FROM wallet_balances INNER JOIN organizations ON organizations.id = organization_id;

-- It pays one dollar with payment pi_1. Stripe tells twice; the second time is a duplicate and moves nothing.
SELECT credit.* FROM organizations, credit_wallet(id, 1000000, 'topup:pi_1') AS credit;

SELECT credit.* FROM organizations, credit_wallet(id, 1000000, 'topup:pi_1') AS credit;

-- A call of 4 dollars fits: 1 - 4 = -3.
SELECT deduction.* FROM organizations, deduct_call_credits(id, 'call-1', 4000000, '2026-07-01 10:00Z') AS deduction;

-- A call of 6 dollars does not. Nothing moves, but it is not forgotten: it happened, so it is owed.
SELECT deduction.* FROM organizations, deduct_call_credits(id, 'call-2', 6000000, '2026-07-01 11:00Z') AS deduction;

-- A smaller one that fits exactly is accepted meanwhile.
SELECT deduction.success, deduction.balance_after_micros, deduction.remaining_debt_capacity_micros
FROM organizations, deduct_call_credits(id, 'call-3', 2000000, '2026-07-01 12:00Z') AS deduction;

SELECT idempotency_key, state, amount_micros FROM charges ORDER BY event_at;

-- Ten dollars come in: 10 - 5 = 5, and the call of 6 dollars is settled with it, within the same transaction.
SELECT credit.* FROM organizations, credit_wallet(id, 10000000, 'topup:pi_2') AS credit;

-- The statement has every movement, with the balance beside it.
SELECT wallet_sequence, kind, amount_micros, balance_after_micros, idempotency_key
FROM wallet_statement ORDER BY wallet_sequence;

-- The books check.
SELECT * FROM check_books();
