//! Brokers that are told what happened.

pub(crate) mod rabbitmq;
