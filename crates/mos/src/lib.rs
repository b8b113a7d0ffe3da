//! A memory operating system for LLM applications: the facade.
