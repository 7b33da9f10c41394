-- The resulting schema, for reviewers; written by `python -m tests.sql.schema`, never by hand.

TABLE accounts (
    id uuid NOT NULL,
    kind text NOT NULL,
    currency character(3) NOT NULL,
    organization_id uuid
);
TABLE alerts (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    key text NOT NULL,
    facts jsonb NOT NULL,
    opened_at timestamp with time zone NOT NULL DEFAULT now(),
    sent_at timestamp with time zone,
    outcome text,
    incident_id bigint,
    kind text NOT NULL DEFAULT 'raised'::text,
    severity text NOT NULL DEFAULT 'warning'::text,
    due_at timestamp with time zone NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    claim_token uuid,
    withdrawn_at timestamp with time zone
);
TABLE assigned_payments (
    payment_id text NOT NULL,
    organization_id uuid NOT NULL,
    reason text NOT NULL,
    assigned_at timestamp with time zone NOT NULL DEFAULT now()
);
TABLE call_decisions (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    call_id text NOT NULL,
    decision text NOT NULL,
    organization_id uuid,
    duration_ms bigint,
    held text,
    reason text,
    decided_at timestamp with time zone NOT NULL DEFAULT now(),
    decided_by text NOT NULL DEFAULT SESSION_USER
);
TABLE calls (
    id text NOT NULL,
    organization_id uuid,
    assistant_id text,
    squad_id text,
    phone_number_id text,
    call_type text,
    ended_reason text,
    created_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    duration_ms bigint NOT NULL,
    provider_cost_micros bigint,
    reconciled boolean NOT NULL DEFAULT false,
    first_seen_at timestamp with time zone NOT NULL DEFAULT now(),
    webhook_at timestamp with time zone,
    reconciliation_run_id uuid,
    workflow_id text,
    metadata text,
    max_duration_seconds integer,
    held text
);
TABLE charges (
    idempotency_key text NOT NULL,
    organization_id uuid NOT NULL,
    kind text NOT NULL,
    state text NOT NULL,
    amount_micros bigint NOT NULL,
    event_at timestamp with time zone NOT NULL,
    duration_ms bigint,
    billed_seconds integer,
    price_id bigint,
    per_minute_micros bigint,
    increment_seconds integer,
    minimum_seconds integer,
    free_seconds integer,
    corrects text,
    accepted boolean NOT NULL,
    balance_before_micros bigint NOT NULL,
    debt_limit_micros bigint NOT NULL,
    needs_recharge boolean NOT NULL,
    charged_at timestamp with time zone NOT NULL DEFAULT now(),
    settled_by_transfer_id bigint
);
TABLE event_attempts (
    event_id bigint NOT NULL,
    attempt integer NOT NULL,
    failed_at timestamp with time zone NOT NULL DEFAULT now(),
    error_class text NOT NULL,
    message text NOT NULL,
    flow_run_id uuid
);
TABLE event_bodies (
    received_at timestamp with time zone NOT NULL,
    event_id bigint NOT NULL,
    body bytea NOT NULL
);
TABLE events (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    provider text NOT NULL,
    delivery_key text NOT NULL,
    type text NOT NULL,
    state text NOT NULL DEFAULT 'waiting'::text,
    reason text,
    deliveries integer NOT NULL DEFAULT 1,
    received_at timestamp with time zone NOT NULL DEFAULT now(),
    last_received_at timestamp with time zone NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    claim_token uuid,
    claimed_by text,
    lease_until timestamp with time zone,
    flow_run_id uuid,
    finished_at timestamp with time zone,
    suspected boolean NOT NULL DEFAULT false,
    expired_claims integer NOT NULL DEFAULT 0
);
TABLE findings (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    run_id uuid NOT NULL,
    kind text NOT NULL,
    call_id text,
    organization_id uuid,
    amount_micros bigint,
    outcome text,
    detail jsonb NOT NULL DEFAULT '{}'::jsonb
);
TABLE first_sights (
    call_id text NOT NULL,
    told boolean NOT NULL,
    seen_at timestamp with time zone NOT NULL DEFAULT now()
);
TABLE incidents (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    key text NOT NULL,
    severity text NOT NULL,
    opened_at timestamp with time zone NOT NULL DEFAULT now(),
    last_seen_at timestamp with time zone NOT NULL DEFAULT now(),
    closed_at timestamp with time zone,
    facts jsonb NOT NULL,
    times_seen integer NOT NULL DEFAULT 1
);
TABLE key_locks (
    purpose text NOT NULL,
    place smallint NOT NULL
);
TABLE movements (
    id text NOT NULL,
    kind text NOT NULL,
    source_id text NOT NULL,
    payment_id text NOT NULL,
    amount_micros bigint NOT NULL,
    currency character(3) NOT NULL,
    disputed_micros bigint,
    disputed_currency character(3),
    event_at timestamp with time zone,
    booked_at timestamp with time zone,
    first_seen_at timestamp with time zone NOT NULL DEFAULT now()
);
TABLE organizations (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name text NOT NULL,
    email text NOT NULL,
    currency character(3) NOT NULL,
    charge_policy text NOT NULL DEFAULT 'record'::text,
    stripe_customer_id text,
    created_at timestamp with time zone NOT NULL DEFAULT now()
);
TABLE payments (
    payment_id text NOT NULL,
    organization_id uuid NOT NULL,
    currency character(3) NOT NULL,
    charged_micros bigint NOT NULL,
    credited_micros bigint NOT NULL,
    tax_micros bigint NOT NULL DEFAULT 0,
    discount_micros bigint NOT NULL DEFAULT 0,
    fee_micros bigint NOT NULL DEFAULT 0,
    session_id text,
    sale jsonb,
    received_micros bigint,
    received_currency character(3),
    tax_percent numeric NOT NULL DEFAULT 0,
    booked_at timestamp with time zone NOT NULL DEFAULT now()
);
TABLE prices (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    organization_id uuid,
    currency character(3) NOT NULL,
    per_minute_micros bigint NOT NULL,
    increment_seconds integer NOT NULL DEFAULT 1,
    minimum_seconds integer NOT NULL DEFAULT 0,
    free_seconds integer NOT NULL DEFAULT 0,
    valid tstzrange NOT NULL
);
TABLE reconciliation_runs (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    state text NOT NULL DEFAULT 'running'::text,
    window_from timestamp with time zone NOT NULL,
    window_to timestamp with time zone NOT NULL,
    organization_id uuid,
    dry_run boolean NOT NULL DEFAULT false,
    started_at timestamp with time zone NOT NULL DEFAULT now(),
    finished_at timestamp with time zone,
    provider_calls integer,
    known_calls integer,
    counts jsonb NOT NULL DEFAULT '{}'::jsonb,
    ended_calls integer,
    ended_by_webhook integer,
    reliability_ratio numeric(9,8),
    recovered_calls integer,
    recovered_micros bigint,
    outstanding_micros bigint,
    alert text,
    error text,
    report_path text,
    flow_run_id uuid,
    kind text NOT NULL DEFAULT 'night'::text,
    as_of timestamp with time zone,
    listed_from timestamp with time zone,
    reliability_low numeric(9,8),
    reliability_high numeric(9,8),
    money jsonb NOT NULL DEFAULT '[]'::jsonb,
    groups jsonb NOT NULL DEFAULT '{}'::jsonb,
    completeness jsonb NOT NULL DEFAULT '[]'::jsonb,
    cause text,
    plan_digest text,
    plan jsonb,
    applies_run_id uuid,
    applied_at timestamp with time zone,
    applied_by_run_id uuid,
    reported_by uuid
);
TABLE routes (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    external_id text NOT NULL,
    organization_id uuid NOT NULL,
    valid tstzrange NOT NULL
);
TABLE run_corrections (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    run_id uuid NOT NULL,
    call_id text NOT NULL,
    difference_micros bigint NOT NULL,
    duration_before_ms bigint,
    duration_after_ms bigint
);
TABLE schema_revision (
    version_num character varying(32) NOT NULL
);
TABLE seen_payments (
    payment_id text NOT NULL,
    charge_id text,
    skipped_because text,
    seen_at timestamp with time zone NOT NULL DEFAULT now()
);
TABLE sms_messages (
    sid text NOT NULL,
    organization_id uuid,
    account_sid text NOT NULL,
    messaging_service_sid text,
    status text NOT NULL,
    error_code integer,
    carrier_accepted boolean NOT NULL,
    num_segments integer,
    sent_at timestamp with time zone,
    provider_price_micros bigint,
    provider_currency character(3),
    sms_price_id bigint,
    per_segment_micros bigint,
    first_seen_at timestamp with time zone NOT NULL DEFAULT now(),
    status_at timestamp with time zone NOT NULL DEFAULT now(),
    polled_at timestamp with time zone,
    gone_at timestamp with time zone,
    missing_since timestamp with time zone
);
TABLE sms_prices (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    organization_id uuid,
    currency character(3) NOT NULL,
    per_segment_micros bigint NOT NULL,
    valid tstzrange NOT NULL
);
TABLE transfers (
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    from_account uuid NOT NULL,
    to_account uuid NOT NULL,
    amount_micros bigint NOT NULL,
    currency character(3) NOT NULL,
    idempotency_key text NOT NULL,
    kind text NOT NULL,
    organization_id uuid NOT NULL,
    wallet_sequence bigint,
    balance_after_micros bigint,
    debt_limit_micros bigint,
    overrun boolean NOT NULL DEFAULT false,
    payment_id text,
    corrects_transfer_id bigint,
    reason text,
    event_at timestamp with time zone NOT NULL,
    booked_at timestamp with time zone NOT NULL DEFAULT now()
);
TABLE wallets (
    organization_id uuid NOT NULL,
    currency character(3) NOT NULL,
    balance_micros bigint NOT NULL DEFAULT 0,
    debt_limit_micros bigint NOT NULL,
    recharge_threshold_micros bigint NOT NULL DEFAULT 0,
    last_sequence bigint NOT NULL DEFAULT 0
);
TABLE workers (
    name text NOT NULL,
    started_at timestamp with time zone NOT NULL DEFAULT now(),
    seen_at timestamp with time zone NOT NULL DEFAULT now(),
    prefect_reached_at timestamp with time zone
);

CONSTRAINT accounts.accounts_check CHECK (((kind = 'wallet'::text) = (organization_id IS NOT NULL)));
CONSTRAINT accounts.accounts_check1 CHECK (((organization_id IS NULL) OR (id = organization_id)));
CONSTRAINT accounts.accounts_kind_check CHECK ((kind = ANY (ARRAY['wallet'::text, 'stripe'::text, 'call_revenue'::text, 'sms_revenue'::text, 'refunds'::text, 'disputes'::text, 'adjustments'::text, 'tax'::text, 'fees'::text, 'suspense'::text])));
CONSTRAINT accounts.accounts_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id);
CONSTRAINT accounts.accounts_pkey PRIMARY KEY (id);
CONSTRAINT alerts.alerts_incident_id_fkey FOREIGN KEY (incident_id) REFERENCES incidents(id);
CONSTRAINT alerts.alerts_kind_check CHECK ((kind = ANY (ARRAY['raised'::text, 'reminder'::text, 'cleared'::text, 'summary'::text, 'heartbeat'::text])));
CONSTRAINT alerts.alerts_pkey PRIMARY KEY (id);
CONSTRAINT alerts.alerts_severity_check CHECK ((severity = ANY (ARRAY['info'::text, 'warning'::text, 'critical'::text])));
CONSTRAINT assigned_payments.assigned_payments_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id);
CONSTRAINT assigned_payments.assigned_payments_payment_id_check CHECK ((payment_id <> ''::text));
CONSTRAINT assigned_payments.assigned_payments_pkey PRIMARY KEY (payment_id);
CONSTRAINT assigned_payments.assigned_payments_reason_check CHECK ((reason <> ''::text));
CONSTRAINT call_decisions.call_decisions_call_id_fkey FOREIGN KEY (call_id) REFERENCES calls(id);
CONSTRAINT call_decisions.call_decisions_decision_check CHECK ((decision = ANY (ARRAY['assigned'::text, 'released'::text])));
CONSTRAINT call_decisions.call_decisions_duration_ms_check CHECK ((duration_ms >= 0));
CONSTRAINT call_decisions.call_decisions_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id);
CONSTRAINT call_decisions.call_decisions_pkey PRIMARY KEY (id);
CONSTRAINT calls.calls_duration_ms_check CHECK ((duration_ms >= 0));
CONSTRAINT calls.calls_id_check CHECK ((id <> ''::text));
CONSTRAINT calls.calls_pkey PRIMARY KEY (id);
CONSTRAINT charges.charges_check CHECK (((amount_micros >= 0) OR (kind = 'correction'::text)));
CONSTRAINT charges.charges_corrects_fkey FOREIGN KEY (corrects) REFERENCES charges(idempotency_key);
CONSTRAINT charges.charges_key_names_something CHECK ((idempotency_key !~ '^([a-z_]*:)?\s*(:|$)'::text)) NOT VALID;
CONSTRAINT charges.charges_kind_check CHECK ((kind = ANY (ARRAY['call'::text, 'sms'::text, 'correction'::text])));
CONSTRAINT charges.charges_pkey PRIMARY KEY (idempotency_key);
CONSTRAINT charges.charges_settled_by_transfer_id_fkey FOREIGN KEY (settled_by_transfer_id) REFERENCES transfers(id);
CONSTRAINT charges.charges_state_check CHECK ((state = ANY (ARRAY['settled'::text, 'outstanding'::text, 'free'::text, 'cancelled'::text])));
CONSTRAINT event_attempts.event_attempts_event_id_fkey FOREIGN KEY (event_id) REFERENCES events(id) ON DELETE CASCADE;
CONSTRAINT event_attempts.event_attempts_pkey PRIMARY KEY (event_id, attempt);
CONSTRAINT event_bodies.event_bodies_pkey PRIMARY KEY (received_at, event_id);
CONSTRAINT events.events_check CHECK (((state = ANY (ARRAY['active'::text, 'delayed'::text])) = ((claim_token IS NOT NULL) AND (lease_until IS NOT NULL))));
CONSTRAINT events.events_check1 CHECK (((state = ANY (ARRAY['done'::text, 'skipped'::text, 'dead'::text])) = (finished_at IS NOT NULL)));
CONSTRAINT events.events_check2 CHECK (((reason IS NOT NULL) OR (state <> ALL (ARRAY['skipped'::text, 'parked'::text, 'dead'::text]))));
CONSTRAINT events.events_pkey PRIMARY KEY (id);
CONSTRAINT events.events_provider_check CHECK ((provider = ANY (ARRAY['stripe'::text, 'vapi'::text, 'twilio'::text])));
CONSTRAINT events.events_provider_delivery_key_key UNIQUE (provider, delivery_key);
CONSTRAINT events.events_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'active'::text, 'delayed'::text, 'done'::text, 'skipped'::text, 'parked'::text, 'dead'::text])));
CONSTRAINT findings.findings_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id);
CONSTRAINT findings.findings_pkey PRIMARY KEY (id);
CONSTRAINT findings.findings_run_id_fkey FOREIGN KEY (run_id) REFERENCES reconciliation_runs(id) ON DELETE CASCADE;
CONSTRAINT first_sights.first_sights_pkey PRIMARY KEY (call_id);
CONSTRAINT incidents.incidents_key_check CHECK ((key <> ''::text));
CONSTRAINT incidents.incidents_pkey PRIMARY KEY (id);
CONSTRAINT incidents.incidents_severity_check CHECK ((severity = ANY (ARRAY['info'::text, 'warning'::text, 'critical'::text])));
CONSTRAINT key_locks.key_locks_pkey PRIMARY KEY (purpose, place);
CONSTRAINT key_locks.key_locks_place_check CHECK (((place >= 0) AND (place <= 255)));
CONSTRAINT movements.movements_amount_micros_check CHECK ((amount_micros <> 0));
CONSTRAINT movements.movements_check CHECK (((disputed_micros IS NULL) = (disputed_currency IS NULL)));
CONSTRAINT movements.movements_check1 CHECK (((event_at IS NOT NULL) OR ((kind = 'refund'::text) AND (booked_at IS NULL))));
CONSTRAINT movements.movements_disputed_micros_check CHECK ((disputed_micros > 0));
CONSTRAINT movements.movements_id_check CHECK ((id <> ''::text));
CONSTRAINT movements.movements_kind_check CHECK ((kind = ANY (ARRAY['refund'::text, 'dispute'::text])));
CONSTRAINT movements.movements_payment_id_check CHECK ((payment_id <> ''::text));
CONSTRAINT movements.movements_pkey PRIMARY KEY (id);
CONSTRAINT movements.movements_source_id_check CHECK ((source_id <> ''::text));
CONSTRAINT organizations.organizations_charge_policy_check CHECK ((charge_policy = ANY (ARRAY['record'::text, 'allow_overrun'::text])));
CONSTRAINT organizations.organizations_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text));
CONSTRAINT organizations.organizations_email_check CHECK ((email ~~ '%_@_%'::text));
CONSTRAINT organizations.organizations_name_check CHECK ((name <> ''::text));
CONSTRAINT organizations.organizations_name_key UNIQUE (name);
CONSTRAINT organizations.organizations_pkey PRIMARY KEY (id);
CONSTRAINT organizations.organizations_stripe_customer_id_key UNIQUE (stripe_customer_id);
CONSTRAINT payments.payments_charged_micros_check CHECK ((charged_micros > 0));
CONSTRAINT payments.payments_check CHECK ((charged_micros = ((credited_micros + tax_micros) + fee_micros)));
CONSTRAINT payments.payments_check1 CHECK (((received_micros IS NULL) = (received_currency IS NULL)));
CONSTRAINT payments.payments_credited_micros_check CHECK ((credited_micros >= 0));
CONSTRAINT payments.payments_discount_micros_check CHECK ((discount_micros >= 0));
CONSTRAINT payments.payments_fee_micros_check CHECK ((fee_micros >= 0));
CONSTRAINT payments.payments_payment_id_check CHECK ((payment_id <> ''::text));
CONSTRAINT payments.payments_pkey PRIMARY KEY (payment_id);
CONSTRAINT payments.payments_received_micros_check CHECK ((received_micros > 0));
CONSTRAINT payments.payments_tax_micros_check CHECK ((tax_micros >= 0));
CONSTRAINT payments.payments_tax_percent_check CHECK ((tax_percent >= (0)::numeric));
CONSTRAINT prices.prices_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)) NOT VALID;
CONSTRAINT prices.prices_do_not_overlap EXCLUDE USING gist (COALESCE(organization_id, '00000000-0000-0000-0000-000000000000'::uuid) WITH =, currency WITH =, valid WITH &&);
CONSTRAINT prices.prices_free_seconds_check CHECK ((free_seconds >= 0));
CONSTRAINT prices.prices_increment_seconds_check CHECK ((increment_seconds = ANY (ARRAY[1, 6, 60])));
CONSTRAINT prices.prices_minimum_seconds_check CHECK ((minimum_seconds >= 0));
CONSTRAINT prices.prices_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id);
CONSTRAINT prices.prices_per_minute_micros_check CHECK ((per_minute_micros >= 0));
CONSTRAINT prices.prices_pkey PRIMARY KEY (id);
CONSTRAINT reconciliation_runs.reconciliation_runs_applied_by_run_id_fkey FOREIGN KEY (applied_by_run_id) REFERENCES reconciliation_runs(id);
CONSTRAINT reconciliation_runs.reconciliation_runs_applies_run_id_fkey FOREIGN KEY (applies_run_id) REFERENCES reconciliation_runs(id);
CONSTRAINT reconciliation_runs.reconciliation_runs_check CHECK ((window_to > window_from));
CONSTRAINT reconciliation_runs.reconciliation_runs_kind_check CHECK ((kind = ANY (ARRAY['night'::text, 'recent'::text, 'backfill'::text])));
CONSTRAINT reconciliation_runs.reconciliation_runs_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id);
CONSTRAINT reconciliation_runs.reconciliation_runs_pkey PRIMARY KEY (id);
CONSTRAINT reconciliation_runs.reconciliation_runs_reported_by_fkey FOREIGN KEY (reported_by) REFERENCES reconciliation_runs(id);
CONSTRAINT reconciliation_runs.reconciliation_runs_state_check CHECK ((state = ANY (ARRAY['running'::text, 'completed'::text, 'failed'::text])));
CONSTRAINT routes.routes_do_not_overlap EXCLUDE USING gist (kind WITH =, external_id WITH =, valid WITH &&);
CONSTRAINT routes.routes_external_id_check CHECK ((external_id <> ''::text));
CONSTRAINT routes.routes_kind_check CHECK ((kind = ANY (ARRAY['assistant'::text, 'squad'::text, 'workflow'::text, 'phone_number'::text, 'metadata'::text, 'messaging_service'::text, 'sms_number'::text, 'twilio_account'::text])));
CONSTRAINT routes.routes_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id);
CONSTRAINT routes.routes_pkey PRIMARY KEY (id);
CONSTRAINT routes.routes_valid_check CHECK ((NOT isempty(valid)));
CONSTRAINT run_corrections.run_corrections_difference_micros_check CHECK ((difference_micros <> 0));
CONSTRAINT run_corrections.run_corrections_pkey PRIMARY KEY (id);
CONSTRAINT run_corrections.run_corrections_run_id_fkey FOREIGN KEY (run_id) REFERENCES reconciliation_runs(id) ON DELETE CASCADE;
CONSTRAINT schema_revision.schema_revision_pkc PRIMARY KEY (version_num);
CONSTRAINT seen_payments.seen_payments_payment_id_check CHECK ((payment_id <> ''::text));
CONSTRAINT seen_payments.seen_payments_pkey PRIMARY KEY (payment_id);
CONSTRAINT sms_messages.sms_messages_num_segments_check CHECK ((num_segments > 0));
CONSTRAINT sms_messages.sms_messages_pkey PRIMARY KEY (sid);
CONSTRAINT sms_messages.sms_messages_sid_check CHECK ((sid <> ''::text));
CONSTRAINT sms_messages.sms_messages_sms_price_id_fkey FOREIGN KEY (sms_price_id) REFERENCES sms_prices(id);
CONSTRAINT sms_messages.sms_messages_status_check CHECK ((status = ANY (ARRAY['scheduled'::text, 'accepted'::text, 'queued'::text, 'sending'::text, 'sent'::text, 'canceled'::text, 'failed'::text, 'partially_delivered'::text, 'undelivered'::text, 'delivered'::text, 'read'::text])));
CONSTRAINT sms_prices.sms_prices_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)) NOT VALID;
CONSTRAINT sms_prices.sms_prices_do_not_overlap EXCLUDE USING gist (COALESCE(organization_id, '00000000-0000-0000-0000-000000000000'::uuid) WITH =, currency WITH =, valid WITH &&);
CONSTRAINT sms_prices.sms_prices_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id);
CONSTRAINT sms_prices.sms_prices_per_segment_micros_check CHECK ((per_segment_micros >= 0));
CONSTRAINT sms_prices.sms_prices_pkey PRIMARY KEY (id);
CONSTRAINT transfers.transfers_amount_micros_check CHECK ((amount_micros > 0));
CONSTRAINT transfers.transfers_check CHECK (
CASE num_nonnulls(wallet_sequence, balance_after_micros, debt_limit_micros)
    WHEN 3 THEN ((from_account = organization_id) <> (to_account = organization_id))
    WHEN 0 THEN (((organization_id <> from_account) AND (organization_id <> to_account)) AND (from_account <> to_account))
    ELSE false
END);
CONSTRAINT transfers.transfers_corrects_transfer_id_fkey FOREIGN KEY (corrects_transfer_id) REFERENCES transfers(id);
CONSTRAINT transfers.transfers_idempotency_key_key UNIQUE (idempotency_key);
CONSTRAINT transfers.transfers_key_names_something CHECK ((idempotency_key !~ '^([a-z_]*:)?\s*(:|$)'::text)) NOT VALID;
CONSTRAINT transfers.transfers_kind_check CHECK ((kind = ANY (ARRAY['topup'::text, 'call'::text, 'sms'::text, 'correction'::text, 'refund'::text, 'dispute'::text, 'reinstatement'::text, 'adjustment'::text, 'tax'::text, 'fee'::text, 'excess'::text])));
CONSTRAINT transfers.transfers_organization_id_wallet_sequence_key UNIQUE (organization_id, wallet_sequence);
CONSTRAINT transfers.transfers_pkey PRIMARY KEY (id);
CONSTRAINT wallets.wallets_debt_limit_micros_check CHECK ((debt_limit_micros >= 0));
CONSTRAINT wallets.wallets_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES accounts(id);
CONSTRAINT wallets.wallets_pkey PRIMARY KEY (organization_id);
CONSTRAINT workers.workers_pkey PRIMARY KEY (name);

CREATE UNIQUE INDEX accounts_own ON public.accounts USING btree (kind, currency) WHERE (organization_id IS NULL);
CREATE UNIQUE INDEX accounts_pkey ON public.accounts USING btree (id);
CREATE INDEX alerts_incident ON public.alerts USING btree (incident_id);
CREATE INDEX alerts_key ON public.alerts USING btree (key, opened_at);
CREATE UNIQUE INDEX alerts_pkey ON public.alerts USING btree (id);
CREATE UNIQUE INDEX alerts_scheduled ON public.alerts USING btree (key) WHERE (kind = ANY (ARRAY['summary'::text, 'heartbeat'::text]));
CREATE INDEX alerts_waiting ON public.alerts USING btree (id) WHERE ((sent_at IS NULL) AND (withdrawn_at IS NULL));
CREATE UNIQUE INDEX assigned_payments_pkey ON public.assigned_payments USING btree (payment_id);
CREATE INDEX call_decisions_call ON public.call_decisions USING btree (call_id);
CREATE UNIQUE INDEX call_decisions_pkey ON public.call_decisions USING btree (id);
CREATE INDEX calls_created ON public.calls USING btree (created_at);
CREATE INDEX calls_ended_day ON public.calls USING brin ((((ended_at AT TIME ZONE 'UTC'::text))::date)) WHERE ((started_at IS NOT NULL) AND (ended_at IS NOT NULL));
CREATE INDEX calls_held ON public.calls USING btree (id) WHERE (held IS NOT NULL);
CREATE INDEX calls_of_run ON public.calls USING btree (reconciliation_run_id) WHERE (reconciliation_run_id IS NOT NULL);
CREATE UNIQUE INDEX calls_pkey ON public.calls USING btree (id);
CREATE INDEX calls_unattributed ON public.calls USING btree (created_at) WHERE (organization_id IS NULL);
CREATE INDEX charges_corrections ON public.charges USING btree (corrects) WHERE (corrects IS NOT NULL);
CREATE INDEX charges_outstanding ON public.charges USING btree (organization_id, event_at, idempotency_key) WHERE (state = 'outstanding'::text);
CREATE UNIQUE INDEX charges_pkey ON public.charges USING btree (idempotency_key);
CREATE INDEX charges_settled_by ON public.charges USING btree (settled_by_transfer_id) WHERE (settled_by_transfer_id IS NOT NULL);
CREATE UNIQUE INDEX event_attempts_pkey ON public.event_attempts USING btree (event_id, attempt);
CREATE UNIQUE INDEX event_bodies_pkey ON ONLY public.event_bodies USING btree (received_at, event_id);
CREATE INDEX events_claimed ON public.events USING btree (lease_until) WHERE (state = ANY (ARRAY['active'::text, 'delayed'::text]));
CREATE INDEX events_dead ON public.events USING btree (finished_at) WHERE (state = 'dead'::text);
CREATE INDEX events_finished ON public.events USING btree (finished_at) WHERE (finished_at IS NOT NULL);
CREATE INDEX events_parked ON public.events USING btree (reason) WHERE (state = 'parked'::text);
CREATE UNIQUE INDEX events_pkey ON public.events USING btree (id);
CREATE UNIQUE INDEX events_provider_delivery_key_key ON public.events USING btree (provider, delivery_key);
CREATE INDEX events_received ON public.events USING brin (received_at);
CREATE INDEX events_suspected ON public.events USING btree (expired_claims, id) WHERE ((state = 'waiting'::text) AND suspected);
CREATE INDEX events_waiting ON public.events USING btree (provider, id) WHERE (state = 'waiting'::text);
CREATE INDEX findings_call ON public.findings USING btree (call_id);
CREATE UNIQUE INDEX findings_pkey ON public.findings USING btree (id);
CREATE INDEX findings_run ON public.findings USING btree (run_id, kind);
CREATE UNIQUE INDEX first_sights_pkey ON public.first_sights USING btree (call_id);
CREATE INDEX idx_calls_org_created ON public.calls USING btree (organization_id, created_at);
CREATE INDEX idx_calls_reconciled ON public.calls USING btree (created_at) WHERE reconciled;
CREATE UNIQUE INDEX incidents_open ON public.incidents USING btree (key) WHERE (closed_at IS NULL);
CREATE INDEX incidents_opened ON public.incidents USING btree (opened_at);
CREATE UNIQUE INDEX incidents_pkey ON public.incidents USING btree (id);
CREATE UNIQUE INDEX key_locks_pkey ON public.key_locks USING btree (purpose, place);
CREATE INDEX movements_payment ON public.movements USING btree (payment_id);
CREATE UNIQUE INDEX movements_pkey ON public.movements USING btree (id);
CREATE UNIQUE INDEX organizations_name_key ON public.organizations USING btree (name);
CREATE UNIQUE INDEX organizations_pkey ON public.organizations USING btree (id);
CREATE UNIQUE INDEX organizations_stripe_customer_id_key ON public.organizations USING btree (stripe_customer_id);
CREATE UNIQUE INDEX payments_pkey ON public.payments USING btree (payment_id);
CREATE INDEX payments_sale ON public.payments USING btree (((sale ->> 'id'::text))) WHERE (sale IS NOT NULL);
CREATE INDEX prices_do_not_overlap ON public.prices USING gist (COALESCE(organization_id, '00000000-0000-0000-0000-000000000000'::uuid), currency, valid);
CREATE INDEX prices_organization ON public.prices USING btree (organization_id);
CREATE UNIQUE INDEX prices_pkey ON public.prices USING btree (id);
CREATE UNIQUE INDEX reconciliation_runs_pkey ON public.reconciliation_runs USING btree (id);
CREATE INDEX reconciliation_runs_started ON public.reconciliation_runs USING btree (started_at DESC);
CREATE INDEX reconciliation_runs_window ON public.reconciliation_runs USING btree (window_from, window_to) WHERE (state = 'completed'::text);
CREATE INDEX routes_do_not_overlap ON public.routes USING gist (kind, external_id, valid);
CREATE INDEX routes_external_id ON public.routes USING btree (external_id, kind);
CREATE UNIQUE INDEX routes_pkey ON public.routes USING btree (id);
CREATE UNIQUE INDEX run_corrections_pkey ON public.run_corrections USING btree (id);
CREATE INDEX run_corrections_run ON public.run_corrections USING btree (run_id, call_id);
CREATE UNIQUE INDEX schema_revision_pkc ON public.schema_revision USING btree (version_num);
CREATE INDEX seen_payments_charge ON public.seen_payments USING btree (charge_id) WHERE (charge_id IS NOT NULL);
CREATE UNIQUE INDEX seen_payments_pkey ON public.seen_payments USING btree (payment_id);
CREATE INDEX sms_messages_failed ON public.sms_messages USING btree (status_at) WHERE (status = ANY (ARRAY['failed'::text, 'undelivered'::text]));
CREATE INDEX sms_messages_first_seen ON public.sms_messages USING btree (first_seen_at);
CREATE INDEX sms_messages_organization ON public.sms_messages USING btree (organization_id, first_seen_at);
CREATE UNIQUE INDEX sms_messages_pkey ON public.sms_messages USING btree (sid);
CREATE INDEX sms_messages_unattributed ON public.sms_messages USING btree (first_seen_at) WHERE (organization_id IS NULL);
CREATE INDEX sms_messages_uncharged ON public.sms_messages USING btree (sent_at) WHERE ((sms_price_id IS NULL) AND carrier_accepted);
CREATE INDEX sms_prices_do_not_overlap ON public.sms_prices USING gist (COALESCE(organization_id, '00000000-0000-0000-0000-000000000000'::uuid), currency, valid);
CREATE INDEX sms_prices_organization ON public.sms_prices USING btree (organization_id);
CREATE UNIQUE INDEX sms_prices_pkey ON public.sms_prices USING btree (id);
CREATE UNIQUE INDEX transfers_idempotency_key_key ON public.transfers USING btree (idempotency_key);
CREATE UNIQUE INDEX transfers_one_credit_per_payment ON public.transfers USING btree (payment_id) WHERE (kind = 'topup'::text);
CREATE UNIQUE INDEX transfers_organization_id_wallet_sequence_key ON public.transfers USING btree (organization_id, wallet_sequence);
CREATE INDEX transfers_payment ON public.transfers USING btree (payment_id) WHERE ((payment_id IS NOT NULL) AND (kind <> 'topup'::text));
CREATE UNIQUE INDEX transfers_pkey ON public.transfers USING btree (id);
CREATE UNIQUE INDEX wallets_pkey ON public.wallets USING btree (organization_id);
CREATE UNIQUE INDEX workers_pkey ON public.workers USING btree (name);

CREATE TRIGGER events_step BEFORE UPDATE OF state ON public.events FOR EACH ROW WHEN ((NOT is_event_step(old.state, new.state))) EXECUTE FUNCTION refuse_event_step();
CREATE TRIGGER transfers_keep_rows BEFORE DELETE OR UPDATE ON public.transfers FOR EACH ROW EXECUTE FUNCTION refuse_change_of_history();
CREATE TRIGGER transfers_keep_table BEFORE TRUNCATE ON public.transfers FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

VIEW checks.charges_equal_transfers {"organization_id uuid","detail jsonb"};
VIEW checks.charges_follow_from_their_prices {"organization_id uuid","detail jsonb"};
VIEW checks.every_billable_message_is_charged {"organization_id uuid","detail jsonb"};
VIEW checks.every_ended_call_is_charged {"organization_id uuid","detail jsonb"};
VIEW checks.every_event_in_a_known_state {"organization_id uuid","detail jsonb"};
VIEW checks.every_movement_is_booked {"organization_id uuid","detail jsonb"};
VIEW checks.message_charges_follow_from_their_prices {"organization_id uuid","detail jsonb"};
VIEW checks.no_routed_call_in_quarantine {"organization_id uuid","detail jsonb"};
VIEW checks.no_routed_message_in_quarantine {"organization_id uuid","detail jsonb"};
VIEW checks.no_usage_beyond_debt_limit {"organization_id uuid","detail jsonb"};
VIEW checks.one_charge_per_call {"organization_id uuid","detail jsonb"};
VIEW checks.one_credit_per_payment {"organization_id uuid","detail jsonb"};
VIEW checks.payments_as_booked {"organization_id uuid","detail jsonb"};
VIEW checks.references_lead_somewhere {"organization_id uuid","detail jsonb"};
VIEW checks.sequences_without_gaps {"organization_id uuid","detail jsonb"};
VIEW checks.stored_balance_equals_transfers {"organization_id uuid","detail jsonb"};
VIEW checks.taken_back_as_due {"organization_id uuid","detail jsonb"};
VIEW checks.taken_back_within_credited {"organization_id uuid","detail jsonb"};
VIEW checks.transfers_sum_to_zero {"organization_id uuid","detail jsonb"};
VIEW public.event_queue {"provider text","type text","state text","events bigint","oldest_received_at timestamp with time zone"};
VIEW public.payment_reversals {"payment_id text","organization_id uuid","currency character(3)","charged_micros bigint","credited_micros bigint","stripe_micros bigint","taken_micros bigint","wallet_due_micros bigint","tax_due_micros bigint","fee_due_micros bigint","excess_due_micros bigint","wallet_booked_micros bigint","tax_booked_micros bigint","fee_booked_micros bigint","excess_booked_micros bigint"};
VIEW public.sms_failures {"hour timestamp with time zone","organization_id uuid","status text","error_code integer","messages bigint","ended_messages bigint"};
VIEW public.vapi_webhook_reliability {"organization_id uuid","day date","ended bigint","by_webhook bigint","reconciled bigint","ratio numeric"};
VIEW public.wallet_balances {"organization_id uuid","currency character(3)","balance_micros bigint","debt_limit_micros bigint","outstanding_micros bigint","needs_recharge boolean","state text"};
VIEW public.wallet_statement {"organization_id uuid","wallet_sequence bigint","event_at timestamp with time zone","booked_at timestamp with time zone","kind text","amount_micros bigint","balance_after_micros bigint","currency character(3)","idempotency_key text","overrun boolean","reason text"};
VIEW reporting.calls {"call_id text","organization_id uuid","organization text","assistant_id text","squad_id text","phone_number_id text","call_type text","ended_reason text","created_at timestamp with time zone","started_at timestamp with time zone","ended_at timestamp with time zone","duration_ms bigint","provider_cost_micros bigint","webhook_was_due boolean","by_webhook boolean","first_seen_at timestamp with time zone","webhook_at timestamp with time zone"};
VIEW reporting.charges {"organization_id uuid","organization text","kind text","state text","reference text","amount_micros bigint","currency character(3)","event_at timestamp with time zone","charged_at timestamp with time zone","duration_ms bigint","billed_seconds integer","per_minute_micros bigint","increment_seconds integer"};
VIEW reporting.event_queue {"provider text","type text","state text","events bigint","oldest_received_at timestamp with time zone"};
VIEW reporting.findings {"finding_id bigint","run_id uuid","window_to timestamp with time zone","dry_run boolean","kind text","call_id text","organization_id uuid","organization text","amount_micros bigint","currency character(3)","outcome text","detail jsonb"};
VIEW reporting.incidents {"incident_id bigint","key text","severity text","opened_at timestamp with time zone","last_seen_at timestamp with time zone","closed_at timestamp with time zone","times_seen integer"};
VIEW reporting.missing_calls {"organization_id uuid","organization text","assistant_id text","hour timestamp with time zone","ended_reason text","ended bigint","missing bigint"};
VIEW reporting.night_figures {"finished_at timestamp with time zone","reliability_ratio numeric(9,8)","ended_calls integer","recovered_calls integer","counts jsonb","money jsonb"};
VIEW reporting.organization_margins {"organization_id uuid","organization text","month date","currency bpchar","calls bigint","duration_ms bigint","revenue_micros bigint","outstanding_micros bigint","provider_cost_micros bigint","margin_micros bigint"};
VIEW reporting.organizations {"organization_id uuid","organization text","currency character(3)","charge_policy text","created_at timestamp with time zone"};
VIEW reporting.provider_cost_drift {"run_id uuid","window_to timestamp with time zone","call_id text","organization_id uuid","organization text","cost_before_micros bigint","cost_after_micros bigint","duration_before_ms bigint","duration_after_ms bigint","corrected_micros bigint","currency character(3)","outcome text"};
VIEW reporting.recovered_calls {"call_id text","organization_id uuid","organization text","assistant_id text","ended_reason text","ended_at timestamp with time zone","duration_ms bigint","run_id uuid","recovered_at timestamp with time zone","webhook_at timestamp with time zone","charge_state text","amount_micros bigint","currency character(3)","provider_cost_micros bigint"};
VIEW reporting.reliability_by_assistant {"day date","organization_id uuid","organization text","assistant_id text","ended bigint","by_webhook bigint","lost bigint","ratio numeric"};
VIEW reporting.reliability_by_day {"day date","ended bigint","by_webhook bigint","lost bigint","ratio numeric"};
VIEW reporting.runs {"run_id uuid","kind text","state text","dry_run boolean","window_from timestamp with time zone","window_to timestamp with time zone","as_of timestamp with time zone","organization text","started_at timestamp with time zone","finished_at timestamp with time zone","provider_calls integer","known_calls integer","counts jsonb","ended_calls integer","ended_by_webhook integer","reliability_ratio numeric(9,8)","reliability_low numeric(9,8)","reliability_high numeric(9,8)","recovered_calls integer","recovered_micros bigint","outstanding_micros bigint","money jsonb","completeness jsonb","cause text","alert text","error text","report_path text"};
VIEW reporting.sms_messages {"sid text","organization_id uuid","organization text","status text","error_code integer","carrier_accepted boolean","num_segments integer","sent_at timestamp with time zone","status_at timestamp with time zone","per_segment_micros bigint","provider_price_micros bigint","provider_currency character(3)"};
VIEW reporting.wallet_figures {"currency character(3)","state text","wallets bigint","balance_micros bigint","outstanding_micros bigint"};
VIEW reporting.wallet_statement {"organization_id uuid","organization text","wallet_sequence bigint","event_at timestamp with time zone","booked_at timestamp with time zone","kind text","amount_micros bigint","balance_after_micros bigint","currency character(3)","idempotency_key text","overrun boolean"};
VIEW reporting.wallets {"organization_id uuid","organization text","currency character(3)","balance_micros bigint","debt_limit_micros bigint","outstanding_micros bigint","outstanding_charges bigint","recharge_threshold_micros bigint","needs_recharge boolean"};

FUNCTION accept_events(text[],text[],text[],bytea[]) RETURNS void SECURITY DEFINER;
FUNCTION add_route(uuid,text,text,timestamp with time zone) RETURNS TABLE(charged_calls integer, woken_events integer) SECURITY DEFINER;
FUNCTION assign_call(text,uuid,text) RETURNS TABLE(organization_id uuid, outcome text, amount_micros bigint, problem text, duplicate boolean) SECURITY DEFINER;
FUNCTION assign_payment(text,uuid,text) RETURNS integer SECURITY DEFINER;
FUNCTION attribute_messages(jsonb) RETURNS void;
FUNCTION beat_heart(text) RETURNS void SECURITY DEFINER;
FUNCTION billed_amount_micros(integer,bigint) RETURNS bigint;
FUNCTION billed_seconds(bigint,integer,integer,integer) RETURNS integer;
FUNCTION body_of_event(timestamp with time zone,bigint) RETURNS SETOF bytea;
FUNCTION book_charges(charge_request[]) RETURNS boolean[];
FUNCTION book_correction(charges,text,bigint,timestamp with time zone) RETURNS bigint;
FUNCTION book_due(movements,text) RETURNS void;
FUNCTION book_own_transfer(uuid,text,text,bigint,text,text,text,timestamp with time zone,text,bigint,text) RETURNS transfers;
FUNCTION book_reversals(text) RETURNS void;
FUNCTION book_shares(payments,payments,text,timestamp with time zone) RETURNS void;
FUNCTION book_transfer(uuid,bigint,text,text,text,timestamp with time zone,boolean,text,bigint,text) RETURNS transfers;
FUNCTION call_duration_ms(timestamp with time zone,timestamp with time zone) RETURNS bigint;
FUNCTION call_problem(timestamp with time zone,timestamp with time zone,timestamp with time zone,bigint,integer) RETURNS text;
FUNCTION charge_calls(text[]) RETURNS integer;
FUNCTION charge_messages(text[]) RETURNS integer;
FUNCTION charge_quarantined_calls() RETURNS integer;
FUNCTION charge_quarantined_messages() RETURNS void;
FUNCTION check_books() RETURNS TABLE(name text, organization_id uuid, detail jsonb) SECURITY DEFINER;
FUNCTION check_same_facts(text,jsonb,jsonb,text) RETURNS void;
FUNCTION claim_alerts(integer,interval,boolean) RETURNS TABLE(id bigint, key text, kind text, severity text, facts jsonb, claim_token uuid, incident_id bigint, since timestamp with time zone, until timestamp with time zone, times_seen integer, told boolean) SECURITY DEFINER;
FUNCTION claim_events(text,integer,interval,uuid,bigint,boolean) RETURNS TABLE(id bigint, provider text, type text, body bytea, attempts integer, claim_token uuid, received_at timestamp with time zone) SECURITY DEFINER;
FUNCTION claim_these_events(bigint[],text,interval,integer,bigint) RETURNS TABLE(id bigint, provider text, type text, body bytea, attempts integer, claim_token uuid, received_at timestamp with time zone) SECURITY DEFINER;
FUNCTION compare_refunds(jsonb) RETURNS TABLE(event_id bigint, outcome text, reason text) SECURITY DEFINER;
FUNCTION contradiction_of(calls) RETURNS text;
FUNCTION correct_call(text,timestamp with time zone,timestamp with time zone,bigint,timestamp with time zone) RETURNS bigint SECURITY DEFINER;
FUNCTION correct_calls(jsonb,uuid) RETURNS TABLE(call_id text, organization_id uuid, difference_micros bigint, problem text) SECURITY DEFINER;
FUNCTION create_organization(text,text,text,bigint,text) RETURNS uuid SECURITY DEFINER;
FUNCTION credit_payment(told_payment,uuid) RETURNS text;
FUNCTION credit_payments(jsonb) RETURNS TABLE(payment_id text, outcome text, reason text, event_id bigint) SECURITY DEFINER;
FUNCTION credit_wallet(uuid,bigint,text,text,timestamp with time zone,text,text) RETURNS TABLE(success boolean, duplicate boolean, balance_before_micros bigint, balance_after_micros bigint, settled_outstanding_micros bigint) SECURITY DEFINER;
FUNCTION debit_wallet(uuid,bigint,text,text,timestamp with time zone) RETURNS TABLE(success boolean, duplicate boolean, balance_before_micros bigint, balance_after_micros bigint) SECURITY DEFINER;
FUNCTION deduct_call_credits(uuid,text,bigint,timestamp with time zone) RETURNS TABLE(success boolean, duplicate boolean, balance_before_micros bigint, balance_after_micros bigint, debt_limit_micros bigint, remaining_debt_capacity_micros bigint, needs_recharge boolean, reason text) SECURITY DEFINER;
FUNCTION dismiss_events(bigint[],text) RETURNS SETOF bigint SECURITY DEFINER;
FUNCTION enqueue_message(text,text,jsonb) RETURNS bigint SECURITY DEFINER;
FUNCTION ensure_partitions(timestamp with time zone,integer) RETURNS integer SECURITY DEFINER;
FUNCTION exchange(payments,bigint,text) RETURNS bigint;
FUNCTION extend_lease(uuid[],interval) RETURNS integer SECURITY DEFINER;
FUNCTION fail_event(uuid,bigint,text,text,boolean,interval,uuid) RETURNS void SECURITY DEFINER;
FUNCTION find_organization(text,text,text,text,text,timestamp with time zone) RETURNS uuid;
FUNCTION find_payer(text,text) RETURNS TABLE(organization_id uuid, reason text) SECURITY DEFINER;
FUNCTION find_payment(jsonb) RETURNS text;
FUNCTION find_price(uuid,text,timestamp with time zone) RETURNS SETOF prices;
FUNCTION find_route(text,text,text,text,text,timestamp with time zone) RETURNS SETOF routes;
FUNCTION find_sms_price(uuid,text,timestamp with time zone) RETURNS SETOF sms_prices;
FUNCTION find_sms_route(text,text,text,timestamp with time zone) RETURNS SETOF routes;
FUNCTION find_told_payer(told_payment) RETURNS TABLE(organization_id uuid, reason text);
FUNCTION finish_events(uuid,bigint[],text[],text[]) RETURNS void SECURITY DEFINER;
FUNCTION forget_bodies(interval,integer) RETURNS TABLE(months integer, bodies integer) SECURITY DEFINER;
FUNCTION held_by_metadata() RETURNS text;
FUNCTION hold_alerts(text,boolean) RETURNS TABLE(id bigint, key text, kind text) SECURITY DEFINER;
FUNCTION is_better(text,text) RETURNS boolean;
FUNCTION is_event_step(text,text) RETURNS boolean;
FUNCTION is_priced_like(charges,charges) RETURNS boolean;
FUNCTION last_charge(text) RETURNS charges;
FUNCTION learn_of_payment(payments,told_payment) RETURNS boolean;
FUNCTION link_customer(uuid,text) RETURNS integer SECURITY DEFINER;
FUNCTION lock_call(text) RETURNS calls;
FUNCTION lock_keys(text,text[]) RETURNS void;
FUNCTION lock_payments(text[]) RETURNS void SECURITY DEFINER;
FUNCTION lock_plan(jsonb,text[]) RETURNS void SECURITY DEFINER;
FUNCTION lock_wallet(uuid) RETURNS wallets;
FUNCTION messages_to_poll(interval,integer) RETURNS TABLE(sid text, account_sid text) SECURITY DEFINER;
FUNCTION name_charges(jsonb) RETURNS jsonb;
FUNCTION names_another(text,uuid,timestamp with time zone) RETURNS boolean;
FUNCTION note_alert_in_doubt(bigint,uuid,text) RETURNS text SECURITY DEFINER;
FUNCTION note_alert_outcome(bigint,uuid,text,boolean) RETURNS void SECURITY DEFINER;
FUNCTION note_applying(uuid[],bigint[],boolean,interval) RETURNS void SECURITY DEFINER;
FUNCTION note_condition(text,boolean,jsonb,text,interval) RETURNS TABLE(incident bigint, enqueued text, since timestamp with time zone, times integer) SECURITY DEFINER;
FUNCTION note_dead_events() RETURNS integer SECURITY DEFINER;
FUNCTION note_messages_asked(text[],boolean) RETURNS void SECURITY DEFINER;
FUNCTION note_movement(movements) RETURNS boolean;
FUNCTION note_payments(jsonb) RETURNS void SECURITY DEFINER;
FUNCTION note_prefect_reached(text,timestamp with time zone) RETURNS void SECURITY DEFINER;
FUNCTION note_run_alert(uuid,text,boolean) RETURNS text SECURITY DEFINER;
FUNCTION oldest_waiting_event() RETURNS bigint SECURITY DEFINER;
FUNCTION own_account(text,text) RETURNS uuid;
FUNCTION post_charge(charge_request) RETURNS charge_answer;
FUNCTION post_charges(charge_request[]) RETURNS SETOF charge_answer;
FUNCTION prune_events(interval,interval,integer) RETURNS TABLE(months integer, bodies integer, events_removed integer) SECURITY DEFINER;
FUNCTION queue_metrics() RETURNS TABLE(waiting bigint, active bigint, delayed bigint, parked bigint, dead bigint, finished bigint, oldest_waiting_at timestamp with time zone) SECURITY DEFINER;
FUNCTION read_told_messages(jsonb) RETURNS TABLE(sid text, status text, error_code integer, account_sid text, messaging_service_sid text, sender text, num_segments integer, sent_at timestamp with time zone, provider_price_micros bigint, provider_currency text, polled boolean);
FUNCTION record_calls(jsonb,boolean,uuid) RETURNS TABLE(call_id text, organization_id uuid, outcome text, amount_micros bigint, known boolean, problem text) SECURITY DEFINER;
FUNCTION record_messages(jsonb) RETURNS TABLE(message_sid text, organization_id uuid, outcome text) SECURITY DEFINER;
FUNCTION record_movements(jsonb) RETURNS TABLE(movement_id text, outcome text, reason text) SECURITY DEFINER;
FUNCTION refuse(text,text,jsonb,text) RETURNS void;
FUNCTION refuse_change_of_history() RETURNS trigger;
FUNCTION refuse_event_step() RETURNS trigger;
FUNCTION refuse_other_payment(payments,told_payment,uuid) RETURNS void;
FUNCTION refuse_unknown(uuid) RETURNS void;
FUNCTION release_call(text,bigint,text) RETURNS TABLE(organization_id uuid, outcome text, amount_micros bigint, problem text, duplicate boolean) SECURITY DEFINER;
FUNCTION release_events(uuid[],bigint[]) RETURNS integer SECURITY DEFINER;
FUNCTION replay_events(bigint[]) RETURNS SETOF bigint SECURITY DEFINER;
FUNCTION reprice_call(text,timestamp with time zone) RETURNS bigint SECURITY DEFINER;
FUNCTION revenue_kind(text) RETURNS text;
FUNCTION round_fraction(numeric,numeric) RETURNS bigint;
FUNCTION round_to_micros(numeric) RETURNS bigint;
FUNCTION same_charge(charge_request) RETURNS charges;
FUNCTION set_charge_policy(uuid,text) RETURNS void SECURITY DEFINER;
FUNCTION set_debt_limit(uuid,bigint) RETURNS bigint SECURITY DEFINER;
FUNCTION set_price(uuid,bigint,integer,integer,integer,timestamp with time zone,text) RETURNS bigint SECURITY DEFINER;
FUNCTION set_recharge_threshold(uuid,bigint) RETURNS void SECURITY DEFINER;
FUNCTION set_sms_price(uuid,bigint,timestamp with time zone,text) RETURNS bigint SECURITY DEFINER;
FUNCTION settle_outstanding(uuid,bigint) RETURNS bigint SECURITY DEFINER;
FUNCTION share_of(bigint,bigint,bigint) RETURNS bigint;
FUNCTION sms_is_billable(text) RETURNS boolean;
FUNCTION sms_is_final(text) RETURNS boolean;
FUNCTION sms_is_settled(sms_messages) RETURNS boolean;
FUNCTION sms_rank(text) RETURNS integer;
FUNCTION sms_sender_may_decide(sms_messages) RETURNS boolean;
FUNCTION split_payment(payments) RETURNS payments;
FUNCTION state_of_call(text) RETURNS TABLE(organization_id uuid, outcome text, amount_micros bigint, problem text);
FUNCTION sweep_events() RETURNS integer SECURITY DEFINER;
FUNCTION told_at_first_sight(text[]) RETURNS TABLE(call_id text, told boolean) SECURITY DEFINER;
FUNCTION unbooked_money(jsonb) RETURNS TABLE(event_id bigint) SECURITY DEFINER;
FUNCTION unfinished_events() RETURNS SETOF events;
FUNCTION value_calls(jsonb) RETURNS TABLE(currency text, charged_micros bigint, at_risk_micros bigint) SECURITY DEFINER;
FUNCTION wake_events(text) RETURNS integer;
FUNCTION wake_payment(text) RETURNS void;
FUNCTION wake_report(text) RETURNS void;
FUNCTION was_taken(movements,text) RETURNS boolean;
FUNCTION with_price_in_force(charges,timestamp with time zone) RETURNS charges;

POLICY every_row ON accounts TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON accounts TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON alerts TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY every_row ON assigned_payments TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON assigned_payments TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON call_decisions TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON call_decisions TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON calls TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON calls TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON charges TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON charges TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON event_attempts TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY every_row ON event_bodies TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY every_row ON events TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY every_row ON findings TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON findings TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON first_sights TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY every_row ON incidents TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY every_row ON key_locks TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY every_row ON movements TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY every_row ON organizations TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON organizations TO {calltally_tenant} USING ((id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON payments TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON payments TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON prices TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON prices TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON reconciliation_runs TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON reconciliation_runs TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON routes TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON routes TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON run_corrections TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY every_row ON seen_payments TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY every_row ON sms_messages TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON sms_messages TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON sms_prices TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON sms_prices TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON transfers TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON transfers TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY wallets_alone ON transfers TO {calltally_tenant} USING ((wallet_sequence IS NOT NULL));
POLICY every_row ON wallets TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);
POLICY own_rows ON wallets TO {calltally_tenant} USING ((organization_id = (NULLIF(current_setting('app.org_id'::text, true), ''::text))::uuid));
POLICY every_row ON workers TO {calltally_app,calltally_books,calltally_nights,calltally_operators,calltally_owner,calltally_receiver,calltally_worker} USING (true);

GRANT SELECT ON checks.charges_equal_transfers TO calltally_app;
GRANT SELECT ON checks.charges_equal_transfers TO calltally_books;
GRANT SELECT ON checks.charges_follow_from_their_prices TO calltally_app;
GRANT SELECT ON checks.charges_follow_from_their_prices TO calltally_books;
GRANT SELECT ON checks.every_billable_message_is_charged TO calltally_app;
GRANT SELECT ON checks.every_billable_message_is_charged TO calltally_books;
GRANT SELECT ON checks.every_ended_call_is_charged TO calltally_app;
GRANT SELECT ON checks.every_ended_call_is_charged TO calltally_books;
GRANT SELECT ON checks.every_event_in_a_known_state TO calltally_app;
GRANT SELECT ON checks.every_event_in_a_known_state TO calltally_books;
GRANT SELECT ON checks.every_movement_is_booked TO calltally_app;
GRANT SELECT ON checks.every_movement_is_booked TO calltally_books;
GRANT SELECT ON checks.message_charges_follow_from_their_prices TO calltally_app;
GRANT SELECT ON checks.message_charges_follow_from_their_prices TO calltally_books;
GRANT SELECT ON checks.no_routed_call_in_quarantine TO calltally_app;
GRANT SELECT ON checks.no_routed_call_in_quarantine TO calltally_books;
GRANT SELECT ON checks.no_routed_message_in_quarantine TO calltally_app;
GRANT SELECT ON checks.no_routed_message_in_quarantine TO calltally_books;
GRANT SELECT ON checks.no_usage_beyond_debt_limit TO calltally_app;
GRANT SELECT ON checks.no_usage_beyond_debt_limit TO calltally_books;
GRANT SELECT ON checks.one_charge_per_call TO calltally_app;
GRANT SELECT ON checks.one_charge_per_call TO calltally_books;
GRANT SELECT ON checks.one_credit_per_payment TO calltally_app;
GRANT SELECT ON checks.one_credit_per_payment TO calltally_books;
GRANT SELECT ON checks.payments_as_booked TO calltally_app;
GRANT SELECT ON checks.payments_as_booked TO calltally_books;
GRANT SELECT ON checks.references_lead_somewhere TO calltally_app;
GRANT SELECT ON checks.references_lead_somewhere TO calltally_books;
GRANT SELECT ON checks.sequences_without_gaps TO calltally_app;
GRANT SELECT ON checks.sequences_without_gaps TO calltally_books;
GRANT SELECT ON checks.stored_balance_equals_transfers TO calltally_app;
GRANT SELECT ON checks.stored_balance_equals_transfers TO calltally_books;
GRANT SELECT ON checks.taken_back_as_due TO calltally_app;
GRANT SELECT ON checks.taken_back_as_due TO calltally_books;
GRANT SELECT ON checks.taken_back_within_credited TO calltally_app;
GRANT SELECT ON checks.taken_back_within_credited TO calltally_books;
GRANT SELECT ON checks.transfers_sum_to_zero TO calltally_app;
GRANT SELECT ON checks.transfers_sum_to_zero TO calltally_books;
GRANT SELECT ON public.accounts TO calltally_app;
GRANT INSERT, SELECT ON public.accounts TO calltally_books;
GRANT SELECT ON public.alerts TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.alerts TO calltally_books;
GRANT SELECT ON public.alerts TO calltally_nights;
GRANT SELECT ON public.alerts TO calltally_worker;
GRANT SELECT ON public.assigned_payments TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.assigned_payments TO calltally_books;
GRANT SELECT ON public.call_decisions TO calltally_app;
GRANT INSERT, SELECT ON public.call_decisions TO calltally_books;
GRANT SELECT ON public.call_decisions TO calltally_nights;
GRANT SELECT ON public.calls TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.calls TO calltally_books;
GRANT SELECT ON public.calls TO calltally_nights;
GRANT SELECT ON public.calls TO calltally_tenant;
GRANT SELECT ON public.calls TO calltally_worker;
GRANT SELECT ON public.charges TO calltally_app;
GRANT INSERT, SELECT ON public.charges TO calltally_books;
GRANT SELECT ON public.charges TO calltally_nights;
GRANT SELECT ON public.charges TO calltally_tenant;
GRANT SELECT ON public.charges TO calltally_worker;
GRANT SELECT ON public.event_attempts TO calltally_app;
GRANT INSERT, SELECT ON public.event_attempts TO calltally_books;
GRANT SELECT ON public.event_attempts TO calltally_worker;
GRANT SELECT ON public.event_bodies TO calltally_app;
GRANT INSERT, SELECT ON public.event_bodies TO calltally_books;
GRANT SELECT ON public.event_bodies TO calltally_worker;
GRANT SELECT ON public.event_queue TO calltally_app;
GRANT SELECT ON public.events TO calltally_app;
GRANT DELETE, INSERT, SELECT, UPDATE ON public.events TO calltally_books;
GRANT SELECT ON public.events TO calltally_worker;
GRANT SELECT ON public.findings TO calltally_app;
GRANT INSERT, SELECT ON public.findings TO calltally_books;
GRANT INSERT, SELECT ON public.findings TO calltally_nights;
GRANT SELECT ON public.findings TO calltally_operators;
GRANT SELECT ON public.findings TO calltally_worker;
GRANT SELECT ON public.first_sights TO calltally_app;
GRANT INSERT, SELECT ON public.first_sights TO calltally_books;
GRANT INSERT, SELECT ON public.first_sights TO calltally_nights;
GRANT SELECT ON public.incidents TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.incidents TO calltally_books;
GRANT SELECT ON public.incidents TO calltally_nights;
GRANT SELECT ON public.incidents TO calltally_worker;
GRANT SELECT ON public.key_locks TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.key_locks TO calltally_books;
GRANT SELECT ON public.movements TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.movements TO calltally_books;
GRANT SELECT ON public.movements TO calltally_worker;
GRANT SELECT ON public.organizations TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.organizations TO calltally_books;
GRANT SELECT ON public.organizations TO calltally_nights;
GRANT SELECT ON public.organizations TO calltally_worker;
GRANT SELECT ON public.payment_reversals TO calltally_app;
GRANT SELECT ON public.payment_reversals TO calltally_books;
GRANT SELECT ON public.payment_reversals TO calltally_worker;
GRANT SELECT ON public.payments TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.payments TO calltally_books;
GRANT SELECT ON public.payments TO calltally_worker;
GRANT SELECT ON public.prices TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.prices TO calltally_books;
GRANT SELECT ON public.prices TO calltally_nights;
GRANT SELECT ON public.prices TO calltally_tenant;
GRANT SELECT ON public.prices TO calltally_worker;
GRANT SELECT ON public.reconciliation_runs TO calltally_app;
GRANT INSERT, SELECT ON public.reconciliation_runs TO calltally_books;
GRANT INSERT, SELECT, UPDATE ON public.reconciliation_runs TO calltally_nights;
GRANT SELECT ON public.reconciliation_runs TO calltally_operators;
GRANT SELECT ON public.reconciliation_runs TO calltally_worker;
GRANT SELECT ON public.routes TO calltally_app;
GRANT DELETE, INSERT, SELECT, UPDATE ON public.routes TO calltally_books;
GRANT SELECT ON public.routes TO calltally_nights;
GRANT SELECT ON public.routes TO calltally_worker;
GRANT SELECT ON public.run_corrections TO calltally_app;
GRANT INSERT, SELECT ON public.run_corrections TO calltally_books;
GRANT SELECT ON public.run_corrections TO calltally_nights;
GRANT SELECT ON public.schema_revision TO calltally_app;
GRANT SELECT ON public.seen_payments TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.seen_payments TO calltally_books;
GRANT SELECT ON public.sms_failures TO calltally_app;
GRANT SELECT ON public.sms_messages TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.sms_messages TO calltally_books;
GRANT SELECT ON public.sms_messages TO calltally_tenant;
GRANT SELECT ON public.sms_messages TO calltally_worker;
GRANT SELECT ON public.sms_prices TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.sms_prices TO calltally_books;
GRANT SELECT ON public.sms_prices TO calltally_tenant;
GRANT SELECT ON public.sms_prices TO calltally_worker;
GRANT SELECT ON public.transfers TO calltally_app;
GRANT INSERT, SELECT ON public.transfers TO calltally_books;
GRANT SELECT ON public.transfers TO calltally_nights;
GRANT SELECT ON public.transfers TO calltally_tenant;
GRANT SELECT ON public.transfers TO calltally_worker;
GRANT SELECT ON public.vapi_webhook_reliability TO calltally_analyst;
GRANT SELECT ON public.vapi_webhook_reliability TO calltally_app;
GRANT SELECT ON public.vapi_webhook_reliability TO calltally_nights;
GRANT SELECT ON public.vapi_webhook_reliability TO calltally_tenant;
GRANT SELECT ON public.wallet_balances TO calltally_analyst;
GRANT SELECT ON public.wallet_balances TO calltally_app;
GRANT SELECT ON public.wallet_balances TO calltally_nights;
GRANT SELECT ON public.wallet_balances TO calltally_tenant;
GRANT SELECT ON public.wallet_balances TO calltally_worker;
GRANT SELECT ON public.wallet_statement TO calltally_app;
GRANT SELECT ON public.wallet_statement TO calltally_tenant;
GRANT SELECT ON public.wallets TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.wallets TO calltally_books;
GRANT SELECT ON public.wallets TO calltally_tenant;
GRANT SELECT ON public.wallets TO calltally_worker;
GRANT SELECT ON public.workers TO calltally_app;
GRANT INSERT, SELECT, UPDATE ON public.workers TO calltally_books;
GRANT SELECT ON public.workers TO calltally_worker;
GRANT SELECT ON reporting.calls TO calltally_analyst;
GRANT SELECT ON reporting.calls TO calltally_app;
GRANT SELECT ON reporting.charges TO calltally_analyst;
GRANT SELECT ON reporting.charges TO calltally_app;
GRANT SELECT ON reporting.event_queue TO calltally_analyst;
GRANT SELECT ON reporting.event_queue TO calltally_app;
GRANT SELECT ON reporting.findings TO calltally_analyst;
GRANT SELECT ON reporting.findings TO calltally_app;
GRANT SELECT ON reporting.incidents TO calltally_analyst;
GRANT SELECT ON reporting.incidents TO calltally_app;
GRANT SELECT ON reporting.missing_calls TO calltally_analyst;
GRANT SELECT ON reporting.missing_calls TO calltally_app;
GRANT SELECT ON reporting.night_figures TO calltally_analyst;
GRANT SELECT ON reporting.night_figures TO calltally_app;
GRANT SELECT ON reporting.night_figures TO calltally_receiver;
GRANT SELECT ON reporting.organization_margins TO calltally_analyst;
GRANT SELECT ON reporting.organization_margins TO calltally_app;
GRANT SELECT ON reporting.organizations TO calltally_analyst;
GRANT SELECT ON reporting.organizations TO calltally_app;
GRANT SELECT ON reporting.provider_cost_drift TO calltally_analyst;
GRANT SELECT ON reporting.provider_cost_drift TO calltally_app;
GRANT SELECT ON reporting.recovered_calls TO calltally_analyst;
GRANT SELECT ON reporting.recovered_calls TO calltally_app;
GRANT SELECT ON reporting.reliability_by_assistant TO calltally_analyst;
GRANT SELECT ON reporting.reliability_by_assistant TO calltally_app;
GRANT SELECT ON reporting.reliability_by_day TO calltally_analyst;
GRANT SELECT ON reporting.reliability_by_day TO calltally_app;
GRANT SELECT ON reporting.runs TO calltally_analyst;
GRANT SELECT ON reporting.runs TO calltally_app;
GRANT SELECT ON reporting.sms_messages TO calltally_analyst;
GRANT SELECT ON reporting.sms_messages TO calltally_app;
GRANT SELECT ON reporting.wallet_figures TO calltally_analyst;
GRANT SELECT ON reporting.wallet_figures TO calltally_app;
GRANT SELECT ON reporting.wallet_figures TO calltally_receiver;
GRANT SELECT ON reporting.wallet_statement TO calltally_analyst;
GRANT SELECT ON reporting.wallet_statement TO calltally_app;
GRANT SELECT ON reporting.wallets TO calltally_analyst;
GRANT SELECT ON reporting.wallets TO calltally_app;

GRANT EXECUTE ON accept_events(text[],text[],text[],bytea[]) TO calltally_nights, calltally_receiver;
GRANT EXECUTE ON add_route(uuid,text,text,timestamp with time zone) TO calltally_app;
GRANT EXECUTE ON assign_call(text,uuid,text) TO calltally_app;
GRANT EXECUTE ON assign_payment(text,uuid,text) TO calltally_app;
GRANT EXECUTE ON beat_heart(text) TO calltally_worker;
GRANT EXECUTE ON billed_amount_micros(integer,bigint) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON billed_seconds(bigint,integer,integer,integer) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON call_duration_ms(timestamp with time zone,timestamp with time zone) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON call_problem(timestamp with time zone,timestamp with time zone,timestamp with time zone,bigint,integer) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON check_books() TO calltally_analyst, calltally_app, calltally_owner, calltally_worker;
GRANT EXECUTE ON claim_alerts(integer,interval,boolean) TO calltally_nights, calltally_worker;
GRANT EXECUTE ON claim_events(text,integer,interval,uuid,bigint,boolean) TO calltally_worker;
GRANT EXECUTE ON claim_these_events(bigint[],text,interval,integer,bigint) TO calltally_worker;
GRANT EXECUTE ON compare_refunds(jsonb) TO calltally_worker;
GRANT EXECUTE ON correct_call(text,timestamp with time zone,timestamp with time zone,bigint,timestamp with time zone) TO calltally_app;
GRANT EXECUTE ON correct_calls(jsonb,uuid) TO calltally_nights;
GRANT EXECUTE ON create_organization(text,text,text,bigint,text) TO calltally_app;
GRANT EXECUTE ON credit_payments(jsonb) TO calltally_worker;
GRANT EXECUTE ON credit_wallet(uuid,bigint,text,text,timestamp with time zone,text,text) TO calltally_app;
GRANT EXECUTE ON debit_wallet(uuid,bigint,text,text,timestamp with time zone) TO calltally_app;
GRANT EXECUTE ON deduct_call_credits(uuid,text,bigint,timestamp with time zone) TO calltally_app;
GRANT EXECUTE ON dismiss_events(bigint[],text) TO calltally_app;
GRANT EXECUTE ON enqueue_message(text,text,jsonb) TO calltally_worker;
GRANT EXECUTE ON ensure_partitions(timestamp with time zone,integer) TO calltally_worker;
GRANT EXECUTE ON exchange(payments,bigint,text) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON extend_lease(uuid[],interval) TO calltally_worker;
GRANT EXECUTE ON fail_event(uuid,bigint,text,text,boolean,interval,uuid) TO calltally_worker;
GRANT EXECUTE ON find_organization(text,text,text,text,text,timestamp with time zone) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON find_payer(text,text) TO calltally_worker;
GRANT EXECUTE ON find_price(uuid,text,timestamp with time zone) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON find_route(text,text,text,text,text,timestamp with time zone) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON find_sms_price(uuid,text,timestamp with time zone) TO calltally_app, calltally_owner, calltally_worker;
GRANT EXECUTE ON find_sms_route(text,text,text,timestamp with time zone) TO calltally_app, calltally_owner, calltally_worker;
GRANT EXECUTE ON finish_events(uuid,bigint[],text[],text[]) TO calltally_worker;
GRANT EXECUTE ON forget_bodies(interval,integer) TO calltally_books;
GRANT EXECUTE ON held_by_metadata() TO calltally_app;
GRANT EXECUTE ON hold_alerts(text,boolean) TO calltally_nights, calltally_worker;
GRANT EXECUTE ON link_customer(uuid,text) TO calltally_app;
GRANT EXECUTE ON lock_payments(text[]) TO calltally_worker;
GRANT EXECUTE ON lock_plan(jsonb,text[]) TO calltally_nights;
GRANT EXECUTE ON messages_to_poll(interval,integer) TO calltally_worker;
GRANT EXECUTE ON names_another(text,uuid,timestamp with time zone) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON note_alert_in_doubt(bigint,uuid,text) TO calltally_nights, calltally_worker;
GRANT EXECUTE ON note_alert_outcome(bigint,uuid,text,boolean) TO calltally_nights, calltally_worker;
GRANT EXECUTE ON note_applying(uuid[],bigint[],boolean,interval) TO calltally_worker;
GRANT EXECUTE ON note_condition(text,boolean,jsonb,text,interval) TO calltally_nights, calltally_worker;
GRANT EXECUTE ON note_dead_events() TO calltally_worker;
GRANT EXECUTE ON note_messages_asked(text[],boolean) TO calltally_worker;
GRANT EXECUTE ON note_payments(jsonb) TO calltally_worker;
GRANT EXECUTE ON note_prefect_reached(text,timestamp with time zone) TO calltally_worker;
GRANT EXECUTE ON note_run_alert(uuid,text,boolean) TO calltally_nights;
GRANT EXECUTE ON oldest_waiting_event() TO calltally_receiver, calltally_worker;
GRANT EXECUTE ON own_account(text,text) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON prune_events(interval,interval,integer) TO calltally_worker;
GRANT EXECUTE ON queue_metrics() TO calltally_operators, calltally_receiver, calltally_worker;
GRANT EXECUTE ON record_calls(jsonb,boolean,uuid) TO calltally_nights, calltally_worker;
GRANT EXECUTE ON record_messages(jsonb) TO calltally_worker;
GRANT EXECUTE ON record_movements(jsonb) TO calltally_worker;
GRANT EXECUTE ON release_call(text,bigint,text) TO calltally_app;
GRANT EXECUTE ON release_events(uuid[],bigint[]) TO calltally_worker;
GRANT EXECUTE ON replay_events(bigint[]) TO calltally_worker;
GRANT EXECUTE ON reprice_call(text,timestamp with time zone) TO calltally_app;
GRANT EXECUTE ON revenue_kind(text) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON round_fraction(numeric,numeric) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON round_to_micros(numeric) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON set_charge_policy(uuid,text) TO calltally_app;
GRANT EXECUTE ON set_debt_limit(uuid,bigint) TO calltally_app;
GRANT EXECUTE ON set_price(uuid,bigint,integer,integer,integer,timestamp with time zone,text) TO calltally_app;
GRANT EXECUTE ON set_recharge_threshold(uuid,bigint) TO calltally_app;
GRANT EXECUTE ON set_sms_price(uuid,bigint,timestamp with time zone,text) TO calltally_app;
GRANT EXECUTE ON settle_outstanding(uuid,bigint) TO calltally_app;
GRANT EXECUTE ON share_of(bigint,bigint,bigint) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
GRANT EXECUTE ON sms_is_billable(text) TO calltally_app, calltally_owner, calltally_worker;
GRANT EXECUTE ON sms_is_final(text) TO calltally_app, calltally_owner, calltally_worker;
GRANT EXECUTE ON sms_is_settled(sms_messages) TO calltally_app, calltally_owner, calltally_worker;
GRANT EXECUTE ON sms_rank(text) TO calltally_app, calltally_owner, calltally_worker;
GRANT EXECUTE ON sms_sender_may_decide(sms_messages) TO calltally_app, calltally_owner, calltally_worker;
GRANT EXECUTE ON sweep_events() TO calltally_worker;
GRANT EXECUTE ON told_at_first_sight(text[]) TO calltally_nights;
GRANT EXECUTE ON unbooked_money(jsonb) TO calltally_worker;
GRANT EXECUTE ON value_calls(jsonb) TO calltally_nights;
GRANT EXECUTE ON was_taken(movements,text) TO calltally_app, calltally_nights, calltally_owner, calltally_worker;
