//! Users in a real PostgreSQL server, which `DATABASE_URL` names. Each test has a schema of its own.

mod contract;
mod interrupted;
mod kill;
mod server;
mod tables;
mod trouble;
