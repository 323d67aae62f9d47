//! Bowline's own servers as parts of an application.

use bowline_core::{Context, Endpoint, Result};
use bowline_server::Admin;

use crate::{BoxFuture, Server};

impl Server for bowline_server::Server {
    fn name(&self) -> &str {
        bowline_server::Server::name(self)
    }

    fn bind<'a>(&'a mut self, _: &'a Context) -> BoxFuture<'a, Result<Vec<Endpoint>>> {
        let bound = bowline_server::Server::bind(self);
        Box::pin(async move { Ok(vec![bound?]) })
    }

    fn serve(&self) -> BoxFuture<'static, Result<()>> {
        Box::pin(bowline_server::Server::serve(self))
    }

    fn set_ready(&self, ready: bool) {
        bowline_server::Server::set_ready(self, ready);
    }

    fn drain<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<()>> {
        Box::pin(bowline_server::Server::drain(self, cx))
    }

    fn abort(&self) {
        bowline_server::Server::abort(self);
    }
}

/// Advertised to nobody: it is for operators.
impl Server for Admin {
    fn name(&self) -> &str {
        "admin"
    }

    fn bind<'a>(&'a mut self, _: &'a Context) -> BoxFuture<'a, Result<Vec<Endpoint>>> {
        let bound = Admin::bind(self);
        Box::pin(async move { bound.map(|_| Vec::new()) })
    }

    fn serve(&self) -> BoxFuture<'static, Result<()>> {
        Box::pin(Admin::serve(self))
    }

    fn set_ready(&self, ready: bool) {
        Admin::set_ready(self, ready);
    }

    fn drain<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<()>> {
        Box::pin(Admin::drain(self, cx))
    }

    fn is_for_operators(&self) -> bool {
        true
    }

    fn abort(&self) {
        Admin::abort(self);
    }
}
