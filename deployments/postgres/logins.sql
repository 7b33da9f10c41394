-- Run once as superuser of a new PostgreSQL, in the database of the books (the compose file does it by itself), and again
-- after an upgrade that knows more logins, or to set new passwords.
-- The books have a login for each that uses them: the owner, who runs `calltally migrate`; people at the command line
-- (calltally_service); and receiver, worker and nights, each of which can be no more than its process
-- (sql/access.sql). Prefect's server has its own login and database.
\getenv service_password CALLTALLY_DB_PASSWORD
\getenv receiver_password CALLTALLY_RECEIVER_DB_PASSWORD
\getenv worker_password CALLTALLY_WORKER_DB_PASSWORD
\getenv nights_password CALLTALLY_NIGHTS_DB_PASSWORD
\getenv prefect_password PREFECT_DB_PASSWORD

SELECT format('CREATE ROLE %I', role_name)
FROM unnest(ARRAY[
    'calltally_app', 'calltally_receiver', 'calltally_worker', 'calltally_nights', 'calltally_operators',
    'calltally_service', 'calltally_receiver_login', 'calltally_worker_login', 'calltally_nights_login', 'prefect'
]) AS role_name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name)
\gexec
GRANT calltally_receiver, calltally_worker, calltally_nights, calltally_operators TO calltally_app;
GRANT calltally_app TO calltally_service;
GRANT calltally_receiver, calltally_operators TO calltally_receiver_login;
GRANT calltally_worker TO calltally_worker_login;
GRANT calltally_nights TO calltally_nights_login;
ALTER ROLE calltally_service LOGIN PASSWORD :'service_password';
ALTER ROLE calltally_receiver_login LOGIN PASSWORD :'receiver_password';
ALTER ROLE calltally_worker_login LOGIN PASSWORD :'worker_password';
ALTER ROLE calltally_nights_login LOGIN PASSWORD :'nights_password';
ALTER ROLE prefect LOGIN PASSWORD :'prefect_password';

SELECT 'CREATE DATABASE calltally_prefect OWNER prefect'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'calltally_prefect')
\gexec
REVOKE CONNECT ON DATABASE calltally_prefect FROM PUBLIC;
