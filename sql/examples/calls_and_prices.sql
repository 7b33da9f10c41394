-- A call finds its organization by our own routes, and its price by the time at which it began.

SELECT create_organization('Acme', 'billing@acme.example') IS NOT NULL AS created;

-- 12 cents a minute in increments of 6 seconds, from July on; before, the default of 70 cents by the second.
SELECT set_price(id, 120000, 6, p_from => '2026-07-01Z') > 0 AS priced FROM organizations;

-- The night finds three calls. Nobody has said yet whose assistant `reception` is: they are stored, in quarantine.
SELECT call_id, outcome, amount_micros, known FROM record_calls('[
    {"id": "june", "assistant_id": "reception", "created_at": "2026-06-30T12:00:00Z",
     "started_at": "2026-06-30T12:00:05Z", "ended_at": "2026-06-30T12:01:05Z"},
    {"id": "july", "assistant_id": "reception", "created_at": "2026-07-01T12:00:00Z",
     "started_at": "2026-07-01T12:00:05Z", "ended_at": "2026-07-01T12:01:06Z"},
    {"id": "busy", "assistant_id": "reception", "created_at": "2026-07-01T13:00:00Z",
     "provider_cost_micros": 0}
]', p_reconciled => true) ORDER BY call_id;

-- A route explains them, and charges them at once: 60 s at 70 cents, 66 s at 12 cents, and nothing for no connection.
SELECT route.* FROM organizations, add_route(id, 'assistant', 'reception') AS route;

SELECT idempotency_key, state, billed_seconds, per_minute_micros, amount_micros FROM charges ORDER BY idempotency_key;

-- The webhook of one comes after all. It changes nothing but notes its arrival.
SELECT call_id, outcome, amount_micros, known FROM record_calls('[
    {"id": "july", "assistant_id": "reception", "created_at": "2026-07-01T12:00:00Z",
     "started_at": "2026-07-01T12:00:05Z", "ended_at": "2026-07-01T12:01:06Z"}
]');

SELECT id, reconciled, webhook_at IS NOT NULL AS webhook_came FROM calls ORDER BY id;

-- The provider corrects the call to two minutes: the difference is a transfer that names what it corrects. Once.
SELECT correct_call('july', '2026-07-01T12:00:05Z', '2026-07-01T12:02:05Z', NULL) AS difference_micros;

SELECT correct_call('july', '2026-07-01T12:00:05Z', '2026-07-01T12:02:05Z', NULL) AS difference_micros;

SELECT
    transfers.idempotency_key,
    transfers.kind,
    transfers.amount_micros,
    transfers.balance_after_micros,
    corrected.idempotency_key AS corrects
FROM transfers LEFT JOIN transfers AS corrected ON transfers.corrects_transfer_id = corrected.id
ORDER BY transfers.wallet_sequence;

-- History itself cannot be edited, not even by the owner of the database.
UPDATE transfers SET amount_micros = 1;
