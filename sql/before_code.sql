-- Checks are views in a schema of their own, and the schema is the list: a file more or less is a check more or less.
DROP SCHEMA IF EXISTS checks CASCADE;
CREATE SCHEMA checks;
DROP SCHEMA IF EXISTS reporting CASCADE;
CREATE SCHEMA reporting;
-- Views are made anew, so that a column may change its type.
DROP VIEW IF EXISTS wallet_balances, vapi_webhook_reliability, wallet_statement, event_queue CASCADE;
DROP VIEW IF EXISTS sms_failures, payment_reversals CASCADE;
SET LOCAL check_function_bodies = off; -- functions may name others that come later
