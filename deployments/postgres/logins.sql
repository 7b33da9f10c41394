-- Run once as superuser of a new PostgreSQL, in the database of the books (the compose file does it by itself).
-- The books have two logins: the owner, who runs `calltally migrate`, and the service, which may only do what the
-- application may. Prefect's server has its own login and database.
\getenv service_password CALLTALLY_DB_PASSWORD
\getenv prefect_password PREFECT_DB_PASSWORD

CREATE ROLE calltally_app NOLOGIN;
CREATE ROLE calltally_service LOGIN PASSWORD :'service_password' IN ROLE calltally_app;
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE DATABASE calltally_prefect OWNER prefect;
REVOKE CONNECT ON DATABASE calltally_prefect FROM PUBLIC;
