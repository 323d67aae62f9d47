//! The suite for our own registry, spoken to as Eureka.

bowline_tests_registries::conformance!(bowline_tests_registries::BowlineAsEureka);
