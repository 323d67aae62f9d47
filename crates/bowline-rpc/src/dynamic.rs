//! Calls by descriptor, without generated code: for the command line, and for whatever forwards calls it was not built for.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_core::{Context, Error, MethodKind, Operation, Result};
use buffa::Message as _;
use buffa_descriptor::generated::descriptor::{FileDescriptorProto, FileDescriptorSet};
use buffa_descriptor::{DescriptorPool, DynamicMessage, MessageIndex};
use bytes::Bytes;

use crate::proto::grpc::reflection::v1::{
    ServerReflectionRequest, server_reflection, server_reflection_request, server_reflection_response,
};
use crate::{Caller, Streaming};

/// The most files one server may describe.
const FILES: usize = 10_000;

/// What services there are and how their messages look, as a server tells of itself.
#[derive(Clone)]
pub struct Schema {
    pool: Arc<DescriptorPool>,
    services: Vec<String>,
}

/// A method of a [`Schema`]. Its messages are canonical JSON.
#[derive(Clone)]
pub struct Method {
    pool: Arc<DescriptorPool>,
    input: MessageIndex,
    output: MessageIndex,
    operation: Operation,
}

impl Schema {
    /// Asks a server by `grpc.reflection.v1`.
    ///
    /// # Errors
    /// If it cannot be reached, has no reflection, or describes itself wrongly.
    pub async fn reflect(cx: &Context, caller: &Caller) -> Result<Self> {
        use server_reflection_request::MessageRequest as Ask;
        use server_reflection_response::MessageResponse as Answer;
        let client = server_reflection::Client::new(caller.clone());
        let (questions, asked) = Streaming::channel(1);
        let mut answers = client.server_reflection_info(cx, asked).await?;
        let ask =
            |question| ServerReflectionRequest { message_request: Some(question), ..Default::default() };
        questions.send(ask(Ask::ListServices(String::new()))).await?;
        let services = match answers.message().await?.and_then(|answer| answer.message_response) {
            Some(Answer::ListServicesResponse(list)) => {
                list.service.iter().map(|service| service.name.clone()).collect::<Vec<_>>()
            }
            other => return Err(unexpected(other)),
        };
        let mut files = BTreeMap::new();
        for service in &services {
            questions.send(ask(Ask::FileContainingSymbol(service.clone()))).await?;
            match answers.message().await?.and_then(|answer| answer.message_response) {
                Some(Answer::FileDescriptorResponse(found)) => {
                    for bytes in &found.file_descriptor_proto {
                        let file = FileDescriptorProto::decode_from_slice(bytes).map_err(broken)?;
                        files.insert(file.name.clone(), file);
                    }
                }
                other => return Err(unexpected(other)),
            }
            if files.len() > FILES {
                return Err(Error::resource_exhausted(format!(
                    "the server describes more than {FILES} files"
                )));
            }
        }
        let set = FileDescriptorSet { file: files.into_values().collect(), ..Default::default() };
        let pool = DescriptorPool::new(set).map_err(broken)?;
        Ok(Self { pool: Arc::new(pool), services })
    }

    /// The full names of the services.
    pub fn services(&self) -> &[String] {
        &self.services
    }

    /// Every method of a service, as `METHOD` and its kind.
    pub fn methods(&self, service: &str) -> Vec<(String, MethodKind)> {
        let service = self.pool.service_by_name(service);
        let methods = service.map(|service| service.methods()).unwrap_or_default();
        methods.iter().map(|method| (method.name().to_owned(), kind(method))).collect()
    }

    /// A method by the full name of its service and its own.
    ///
    /// # Errors
    /// `NOT_FOUND`, with what there is instead.
    pub fn method(&self, service: &str, name: &str) -> Result<Method> {
        let found = self.pool.service_by_name(service).ok_or_else(|| {
            Error::not_found(format!(
                "there is no service `{service}`; there are {}",
                self.services.join(", ")
            ))
        })?;
        let method = found.method(name).ok_or_else(|| {
            let names: Vec<_> = found.methods().iter().map(|method| method.name()).collect();
            Error::not_found(format!("{service} has no method `{name}`; it has {}", names.join(", ")))
        })?;
        Ok(Method {
            pool: Arc::clone(&self.pool),
            input: method.input(),
            output: method.output(),
            operation: Operation::new(service, name, kind(method)),
        })
    }
}

fn kind(method: &buffa_descriptor::MethodDescriptor) -> MethodKind {
    match (method.is_client_streaming(), method.is_server_streaming()) {
        (false, false) => MethodKind::Unary,
        (false, true) => MethodKind::ServerStreaming,
        (true, false) => MethodKind::ClientStreaming,
        (true, true) => MethodKind::BidiStreaming,
    }
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::unavailable(format!("the server describes itself wrongly: {error}"))
}

fn unexpected(answer: Option<server_reflection_response::MessageResponse>) -> Error {
    match answer {
        Some(server_reflection_response::MessageResponse::ErrorResponse(error)) => {
            broken(&error.error_message)
        }
        Some(_) => broken("it answered another question"),
        None => broken("it ended the conversation"),
    }
}

impl Method {
    /// What is called.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Calls it with JSON messages; the answers are JSON messages.
    ///
    /// # Errors
    /// What the server answered, or why it could not be reached. A request that does not fit the message ends the call.
    pub async fn call(
        &self,
        cx: &Context,
        caller: &Caller,
        requests: Streaming<String>,
    ) -> Result<Streaming<String>> {
        let (this, that) = (self.clone(), self.clone());
        let requests = requests.try_map(move |json| this.encode(&json));
        let answers = caller.raw(cx, self.operation.clone(), requests).await?;
        Ok(answers.try_map(move |bytes| that.decode(&bytes)))
    }

    /// A request's JSON in protobuf.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it does not fit the message. Unknown fields are errors here: they are typing errors of a person.
    pub fn encode(&self, json: &str) -> Result<Bytes> {
        let message =
            DynamicMessage::from_json(Arc::clone(&self.pool), self.input, json).map_err(|error| {
                let name = self.pool.message(self.input).full_name();
                Error::invalid_argument(format!("the JSON does not fit {name}: {error}"))
            })?;
        Ok(message.encode_to_vec().into())
    }

    /// An answer's protobuf in JSON.
    ///
    /// # Errors
    /// If it is no message of the method's type.
    pub fn decode(&self, bytes: &[u8]) -> Result<String> {
        let wrong = |error: &dyn std::fmt::Display| {
            let name = self.pool.message(self.output).full_name();
            Error::internal(format!("the answer is no {name}: {error}"))
        };
        let message =
            DynamicMessage::decode(Arc::clone(&self.pool), self.output, bytes).map_err(|e| wrong(&e))?;
        message.to_json().map_err(|e| wrong(&e))
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Schema({})", self.services.join(", "))
    }
}

impl std::fmt::Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Method({})", self.operation)
    }
}
