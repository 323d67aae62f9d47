//! The suite for r-nacos.

bowline_tests_registries::conformance!(bowline_tests_registries::Rnacos, if bowline_testkit::has_rnacos());
