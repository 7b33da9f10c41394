SELECT 1; -- no table changes: functions are applied after every revision
