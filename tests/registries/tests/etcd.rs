//! The suite for etcd, and what is etcd's alone.

bowline_tests_registries::conformance!(bowline_tests_registries::Etcd);
