-- Who may use what: the whole of it, for all that is not their owners'. What has no line here is closed, whatever else
-- is written anywhere; grants.sql makes it so after each revision, and tests/sql/test_access.py compares every
-- function, table and column with it, role by role. To open a new function, add one line.
--
--   what         a function (all its signatures), a table or view
--   privileges   EXECUTE, SELECT, SELECT (columns), INSERT, UPDATE
--   roles        receiver, worker, nights, operators: the processes (operators: the operators' HTTP API)
--                people: the command line, calltally_app. It has all that the processes have and reads every table.
--                tenant, analyst; owner: in views that act as their owner
CREATE TEMPORARY TABLE access (what text, privileges text, roles text) ON COMMIT DROP;
INSERT INTO access VALUES

-- The inbox
('accept_events', 'EXECUTE', 'receiver, nights'),
('queue_metrics', 'EXECUTE', 'receiver, worker, operators'),
('oldest_waiting_event', 'EXECUTE', 'receiver, worker'),
('claim_events', 'EXECUTE', 'worker'),
('claim_these_events', 'EXECUTE', 'worker'),
('extend_lease', 'EXECUTE', 'worker'),
('finish_events', 'EXECUTE', 'worker'),
('fail_event', 'EXECUTE', 'worker'),
('note_applying', 'EXECUTE', 'worker'),
('release_events', 'EXECUTE', 'worker'),
('sweep_events', 'EXECUTE', 'worker'),
('replay_events', 'EXECUTE', 'worker'),
('dismiss_events', 'EXECUTE', 'people'),
('ensure_partitions', 'EXECUTE', 'worker'),
('prune_events', 'EXECUTE', 'worker'),
('forget_bodies', 'EXECUTE', 'books'),
('beat_heart', 'EXECUTE', 'worker'),
('note_prefect_reached', 'EXECUTE', 'worker'),

-- What events, nights and messages book
('lock_payments', 'EXECUTE', 'worker'),
('find_payer', 'EXECUTE', 'worker'),
('credit_payments', 'EXECUTE', 'worker'),
('unbooked_money', 'EXECUTE', 'worker'),
('record_movements', 'EXECUTE', 'worker'),
('compare_refunds', 'EXECUTE', 'worker'),
('note_payments', 'EXECUTE', 'worker'),
('record_calls', 'EXECUTE', 'worker, nights'),
('record_messages', 'EXECUTE', 'worker'),
('messages_to_poll', 'EXECUTE', 'worker'),
('note_messages_asked', 'EXECUTE', 'worker'),
('correct_calls', 'EXECUTE', 'nights'),
('value_calls', 'EXECUTE', 'nights'),
('told_at_first_sight', 'EXECUTE', 'nights'),
('lock_plan', 'EXECUTE', 'nights'),
('note_run_alert', 'EXECUTE', 'nights'),

-- Alerts
('note_condition', 'EXECUTE', 'worker, nights'),
('note_dead_events', 'EXECUTE', 'worker'),
('enqueue_message', 'EXECUTE', 'worker'),
('claim_alerts', 'EXECUTE', 'worker, nights'),
('hold_alerts', 'EXECUTE', 'worker, nights'),
('note_alert_outcome', 'EXECUTE', 'worker, nights'),
('note_alert_in_doubt', 'EXECUTE', 'worker, nights'),

-- By hand
('create_organization', 'EXECUTE', 'people'),
('set_debt_limit', 'EXECUTE', 'people'),
('set_charge_policy', 'EXECUTE', 'people'),
('set_recharge_threshold', 'EXECUTE', 'people'),
('set_price', 'EXECUTE', 'people'),
('set_sms_price', 'EXECUTE', 'people'),
('add_route', 'EXECUTE', 'people'),
('link_customer', 'EXECUTE', 'people'),
('assign_payment', 'EXECUTE', 'people'),
('assign_call', 'EXECUTE', 'people'),
('release_call', 'EXECUTE', 'people'),
('credit_wallet', 'EXECUTE', 'people'),
('debit_wallet', 'EXECUTE', 'people'),
('deduct_call_credits', 'EXECUTE', 'people'),
('settle_outstanding', 'EXECUTE', 'people'),
('correct_call', 'EXECUTE', 'people'),
('reprice_call', 'EXECUTE', 'people'),

-- Questions and arithmetic, which change nothing
('check_books', 'EXECUTE', 'worker, people, analyst, owner'),
('find_organization', 'EXECUTE', 'worker, nights, people, owner'),
('find_route', 'EXECUTE', 'worker, nights, people, owner'),
('find_price', 'EXECUTE', 'worker, nights, people, owner'),
('names_another', 'EXECUTE', 'worker, nights, people, owner'),
('call_problem', 'EXECUTE', 'worker, nights, people, owner'),
('find_sms_route', 'EXECUTE', 'worker, people, owner'),
('find_sms_price', 'EXECUTE', 'worker, people, owner'),
('was_taken', 'EXECUTE', 'worker, nights, people, owner'),
('share_of', 'EXECUTE', 'worker, nights, people, owner'),
('round_fraction', 'EXECUTE', 'worker, nights, people, owner'),
('own_account', 'EXECUTE', 'worker, nights, people, owner'),
('revenue_kind', 'EXECUTE', 'worker, nights, people, owner'),
('round_to_micros', 'EXECUTE', 'worker, nights, people, owner'),
('billed_seconds', 'EXECUTE', 'worker, nights, people, owner'),
('billed_amount_micros', 'EXECUTE', 'worker, nights, people, owner'),
('call_duration_ms', 'EXECUTE', 'worker, nights, people, owner'),
('sms_rank', 'EXECUTE', 'worker, people, owner'),
('sms_is_final', 'EXECUTE', 'worker, people, owner'),
('sms_is_billable', 'EXECUTE', 'worker, people, owner'),
('sms_is_settled', 'EXECUTE', 'worker, people, owner'),
('sms_sender_may_decide', 'EXECUTE', 'worker, people, owner'),

-- What the receiver and the operators' API show: how many and how long, and no wallet, body, number or text
('events', 'SELECT (id, provider, type, state, received_at)', 'receiver, operators'),
('workers', 'SELECT (seen_at)', 'receiver'),
('calls', 'SELECT (organization_id)', 'receiver'),
('sms_messages', 'SELECT (status, first_seen_at)', 'receiver'),
('incidents', 'SELECT (key, severity, closed_at)', 'receiver'),
('alerts', 'SELECT (sent_at, withdrawn_at, due_at)', 'receiver'),
('reporting.wallet_figures', 'SELECT', 'receiver'),
('reporting.night_figures', 'SELECT', 'receiver'),
('reconciliation_runs', 'SELECT', 'operators'),
('findings', 'SELECT', 'operators'),

-- What the worker's flows read: monitoring, replays with their rehearsal, summaries
('alerts', 'SELECT', 'worker, nights'),
('calls', 'SELECT', 'worker, nights, tenant'),
('charges', 'SELECT', 'worker, nights, tenant'),
('event_attempts', 'SELECT', 'worker'),
('event_bodies', 'SELECT', 'worker'),
('events', 'SELECT', 'worker'),
('events', 'SELECT (id, provider, delivery_key, type, state, received_at)', 'nights'), -- what is missing
('incidents', 'SELECT', 'worker, nights'),
('movements', 'SELECT', 'worker'),
('organizations', 'SELECT', 'worker, nights'),
('payments', 'SELECT', 'worker'),
('organizations', 'SELECT (id, name, currency, charge_policy, created_at)', 'tenant'),
('prices', 'SELECT', 'worker, nights, tenant'),
('reconciliation_runs', 'SELECT', 'worker, nights'),
('routes', 'SELECT', 'worker, nights'),
('sms_messages', 'SELECT', 'worker, tenant'),
('sms_prices', 'SELECT', 'worker, tenant'),
('transfers', 'SELECT', 'worker, nights, tenant'),
('wallets', 'SELECT', 'worker, tenant'),
('workers', 'SELECT', 'worker'),
('wallet_balances', 'SELECT', 'worker, nights, tenant, analyst'),
('payment_reversals', 'SELECT', 'worker'),
('wallet_statement', 'SELECT', 'tenant'),
('vapi_webhook_reliability', 'SELECT', 'nights, tenant, analyst'),

-- A night keeps its own records, which are not money
('reconciliation_runs', 'INSERT', 'nights'),
('reconciliation_runs', 'UPDATE', 'nights'),
('findings', 'SELECT', 'worker, nights'),
('call_decisions', 'SELECT', 'nights'),
('findings', 'INSERT', 'nights'),
('first_sights', 'SELECT', 'nights'),
('first_sights', 'INSERT', 'nights'),
('run_corrections', 'SELECT', 'nights');
