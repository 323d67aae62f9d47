//! The life of an application: start in order, run, leave without losing a request, stop in reverse.
//!
//! An [`App`] is told what it consists of and then runs it through one state machine ([`State`]):
//!
//! ```text
//! open resources in order → bind and start servers → warm up → ready → register → running
//!     → (signal, crash of a server, Handle::shutdown)
//! not ready → deregister → wait for propagation → drain → abort what is left at the deadline
//!     → finish background tasks → close resources in reverse
//! ```
//!
//! The order is the point. Registering before being warm sends requests to cold caches; draining before everybody has
//! heard of the departure refuses requests of those who have not; closing a database before the servers fails the requests
//! that are still under way.
//!
//! A failure anywhere unwinds what was started, only that, in reverse. The first failure is what [`App::run`] returns;
//! what fails while stopping after it is logged. Every wait has a bound ([`Lifecycle`]); a panic in a hook is a failure of
//! that hook; a second signal stops at once.
//!
//! ```
//! use bowline_app::App;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let app = App::new("worker").warm_up("cache", |_cx| async { Ok(()) }).background("refresh", |cx| async move {
//!     cx.done().await; // told to stop
//!     Ok(())
//! });
//! let handle = app.handle();
//! let until = async move { handle.running().await };
//! app.run_until(until).await
//! # }).unwrap();
//! ```

mod app;
mod background;
mod handle;
mod identity;
mod lifecycle;
mod parts;
mod run;
mod servers;
mod signals;
mod state;

pub use app::App;
pub use bowline_core::task;
pub use bowline_discovery::BoxFuture;
pub use handle::Handle;
pub use lifecycle::Lifecycle;
pub use parts::{Resource, Server};
pub use state::State;
