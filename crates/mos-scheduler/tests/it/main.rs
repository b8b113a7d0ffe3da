//! Tests of the scheduler as others see it.
