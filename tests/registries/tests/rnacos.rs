//! The suite for r-nacos, without what it cannot do: it keeps the metadata of the first registration at an address, whoever
//! registers there later, and so neither an instance that changes nor a later holder of its id is seen.

bowline_tests_registries::conformance!(bowline_tests_registries::Rnacos:
    every_field_of_an_instance_goes_there_and_back,
    who_vanishes_is_gone_after_its_lease,
    the_death_of_the_last_one_is_told_from_its_removal,
    a_restarted_registry_loses_nobody,
    a_registry_without_its_data_is_filled_again_and_nobody_is_lost_meanwhile,
    an_empty_registry_does_not_empty_a_list,
    while_the_registry_is_gone_the_last_list_stays_and_registering_goes_on,
    a_registry_that_hangs_makes_the_list_stale,
    many_instances_come_stay_and_go,
    what_changed_while_a_connection_was_lost_is_seen_after_it,
);
