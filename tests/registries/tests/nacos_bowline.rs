//! The suite for our own registry, spoken to as a Nacos.

bowline_tests_registries::conformance!(bowline_tests_registries::BowlineNacos);
