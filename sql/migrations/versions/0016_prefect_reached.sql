ALTER TABLE workers ADD COLUMN prefect_reached_at timestamptz;
COMMENT ON COLUMN workers.prefect_reached_at IS
'When Prefect last answered it that it is ready, by the worker''s clock; Prefect is down once no worker reaches it.';
