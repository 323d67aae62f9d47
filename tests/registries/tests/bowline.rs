//! The suite for our own registry.

bowline_tests_registries::conformance!(bowline_tests_registries::Bowline);
