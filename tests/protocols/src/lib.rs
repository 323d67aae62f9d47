//! A service with every kind of method, and what tests need to reach it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline_client::{Channel, ChannelOptions};
use bowline_core::{Context, Endpoint, Error, Result};
use bowline_rpc::Streaming;
use bowline_server::{Server, ServerOptions};

/// The generated code.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod api {
    bowline_rpc::include_api!();
}

use api::google::api::HttpBody;
use api::testing::v1::{
    CountRequest, Everything, FailRequest, Number, SleepReply, SleepRequest, UploadReply, UploadRequest,
    test_error, testing,
};

/// The implementation, which counts what it sees being given up.
#[derive(Clone, Debug, Default)]
pub struct TestService {
    /// Calls whose context was cancelled while they ran.
    pub canceled: Arc<AtomicUsize>,
    /// Calls that began.
    pub begun: Arc<AtomicUsize>,
}

/// Notes that a call was dropped before it ended.
struct Dropped(Option<Arc<AtomicUsize>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl testing::Service for TestService {
    async fn echo(&self, _cx: &Context, req: Everything) -> Result<Everything> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Ok(req)
    }

    async fn fail(&self, _cx: &Context, req: FailRequest) -> Result<Number> {
        match req.how.as_str() {
            #[expect(clippy::panic, reason = "what the test is about")]
            "PANIC" => panic!("the handler's bug"),
            "NOT_FOUND" => Err(test_error::item_not_found().with_metadata("id", "7")),
            "BUSY" => Err(Error::unavailable("try later").with_retry_after(Duration::from_millis(1500))),
            _ => Err(Error::internal("the password is hunter2")),
        }
    }

    async fn sleep(&self, cx: &Context, req: SleepRequest) -> Result<SleepReply> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let mut dropped = Dropped(Some(Arc::clone(&self.canceled)));
        let remaining = cx.remaining().and_then(|left| i64::try_from(left.as_millis()).ok());
        tokio::time::sleep(Duration::from_millis(u64::try_from(req.millis).unwrap_or(0))).await;
        dropped.0 = None;
        Ok(SleepReply { remaining_millis: remaining.unwrap_or(-1), ..Default::default() })
    }

    async fn count(&self, _cx: &Context, req: CountRequest) -> Result<Streaming<Number>> {
        if req.fail_after < 0 {
            return Err(test_error::item_not_found());
        }
        let numbers = Streaming::from_iter(1..=req.to);
        Ok(numbers.try_map(move |value| {
            #[expect(clippy::panic, reason = "what the test is about")]
            if req.fail_after == i32::MAX && value == 3 {
                panic!("the stream's bug");
            }
            if req.fail_after > 0 && value > req.fail_after {
                return Err(test_error::item_not_found());
            }
            Ok(number(value))
        }))
    }

    async fn sum(&self, _cx: &Context, mut req: Streaming<Number>) -> Result<Number> {
        let mut sum = 0;
        while let Some(number) = req.message().await? {
            sum += number.value;
        }
        Ok(number(sum))
    }

    async fn double(&self, _cx: &Context, req: Streaming<Number>) -> Result<Streaming<Number>> {
        Ok(req.try_map(|n| Ok(number(n.value * 2))))
    }

    async fn upload(&self, _cx: &Context, req: UploadRequest) -> Result<UploadReply> {
        Ok(UploadReply {
            name: req.name,
            content_type: req.file.content_type.clone(),
            size: i64::try_from(req.file.data.len()).unwrap_or(i64::MAX),
            ..Default::default()
        })
    }

    async fn download(&self, _cx: &Context, req: Number) -> Result<HttpBody> {
        Ok(HttpBody {
            content_type: "text/csv".into(),
            data: format!("value\n{}\n", req.value).into_bytes(),
            ..Default::default()
        })
    }

    async fn repeat(&self, _cx: &Context, req: Everything) -> Result<Streaming<Everything>> {
        Ok(Streaming::from_iter([req.clone(), req]))
    }

    async fn lines(&self, cx: &Context, req: CountRequest) -> Result<Streaming<HttpBody>> {
        Ok(self.count(cx, req).await?.try_map(|number| {
            Ok(HttpBody {
                content_type: "text/csv".into(),
                data: format!("{}\n", number.value).into_bytes(),
                ..Default::default()
            })
        }))
    }

    async fn upload_chunks(&self, _cx: &Context, mut req: Streaming<HttpBody>) -> Result<UploadReply> {
        let mut reply = UploadReply::default();
        while let Some(chunk) = req.message().await? {
            reply.size += i64::try_from(chunk.data.len()).unwrap_or(i64::MAX);
            if !chunk.content_type.is_empty() {
                reply.content_type.push_str(&chunk.content_type);
                reply.content_type.push(',');
            }
        }
        Ok(reply)
    }
}

/// A number message.
pub fn number(value: i32) -> Number {
    Number { value, ..Default::default() }
}

/// A running server with the test service.
#[derive(Debug)]
pub struct Running {
    /// The server.
    pub server: Server,
    /// What the handlers saw.
    pub service: TestService,
    /// Where it listens.
    pub endpoint: Endpoint,
}

impl Running {
    /// Starts one at a free port of loopback.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start() -> Result<Self> {
        Self::start_with(ServerOptions::at("127.0.0.1:0")?)
    }

    /// Starts one with these options.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start_with(options: ServerOptions) -> Result<Self> {
        let service = TestService::default();
        let mut server = Server::new("test", options).mount(testing::server(service.clone()));
        let endpoint = server.bind()?;
        server.set_ready(true);
        Ok(Self { server, service, endpoint })
    }

    /// A client of it.
    ///
    /// # Errors
    /// If the channel cannot be made.
    pub fn client(&self) -> Result<testing::Client> {
        client(&self.endpoint.to_string(), ChannelOptions::default())
    }
}

/// A client of `target`.
///
/// # Errors
/// If the channel cannot be made.
pub fn client(target: &str, options: ChannelOptions) -> Result<testing::Client> {
    Ok(testing::Client::new(Channel::builder(target).options(options).build()?.caller()?))
}
