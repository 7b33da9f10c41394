-- What each organization has, owes and may still owe. `state`, as alarms, figures and people's screens have it:
-- at_limit (charges are refused, or the next one would be), near_limit (four fifths of the debt limit are used), low
-- (below the recharge threshold), well. A wallet without a debt limit is at it once it owes.
-- Acts as its owner, since the analyst reads no table; the last condition leaves a tenant what is its own.
CREATE VIEW wallet_balances WITH (security_barrier = true) AS
SELECT
    wallets.organization_id,
    wallets.currency,
    wallets.balance_micros,
    wallets.debt_limit_micros,
    coalesce(owed.outstanding_micros, 0)::bigint AS outstanding_micros,
    wallets.balance_micros < wallets.recharge_threshold_micros AS needs_recharge,
    CASE
        WHEN
            owed.outstanding_micros > 0
            OR (wallets.balance_micros <= -wallets.debt_limit_micros AND wallets.balance_micros < 0) THEN 'at_limit'
        WHEN
            wallets.debt_limit_micros > 0
            AND wallets.balance_micros + wallets.debt_limit_micros <= wallets.debt_limit_micros / 5 THEN 'near_limit'
        WHEN wallets.balance_micros < wallets.recharge_threshold_micros THEN 'low'
        ELSE 'well'
    END AS state
FROM wallets
LEFT JOIN (
    SELECT
        organization_id,
        sum(amount_micros) AS outstanding_micros
    FROM charges
    WHERE state = 'outstanding'
    GROUP BY organization_id
) AS owed USING (organization_id)
WHERE
    (
        SELECT bool_or(pg_has_role(role_name, 'USAGE'))
        FROM unnest(ARRAY[
            'calltally_receiver', 'calltally_worker', 'calltally_nights', 'calltally_analyst', 'calltally_owner'
        ]) AS role_name
    )
    OR organization_id = nullif(current_setting('app.org_id', true), '')::uuid;
