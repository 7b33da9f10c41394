CREATE INDEX payments_sale ON payments ((sale ->> 'id')) WHERE sale IS NOT NULL;
