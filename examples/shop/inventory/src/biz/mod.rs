//! What may happen to stock, without a word about how it is stored or asked for.

mod decide;
mod inventory;
mod reservation;

pub use decide::{Decision, confirm, release, reserve};
pub use inventory::{Inventory, Ledger, MAX_BATCH};
pub use reservation::{ItemId, Line, Lines, Reservation, ReservationId, State, Stock};
