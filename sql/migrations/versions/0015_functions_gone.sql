-- Functions of other names now.
DROP FUNCTION IF EXISTS charge_in_force(text);
DROP FUNCTION IF EXISTS check_same_transfer(transfers, bigint, text);
