DROP FUNCTION IF EXISTS credit_payments(jsonb); -- it answers with one more column now
