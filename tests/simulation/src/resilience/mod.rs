//! Overload, failing and slow instances, retry storms: what the limiters, budgets and balancers make of them.

mod engine;
mod numbers;
pub mod overload;
pub mod storm;
