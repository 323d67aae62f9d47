//! The standard reflection service: how `bowline call` and grpcurl learn what a server offers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bowline_core::{Code, Context, Error, Result};
use buffa::Message as _;
use buffa_descriptor::DescriptorPool;
use buffa_descriptor::generated::descriptor::FileDescriptorSet;
use bytes::Bytes;

use crate::proto::grpc::reflection::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse, server_reflection,
    server_reflection_request, server_reflection_response,
};
use crate::{ServiceDef, Streaming};

/// `grpc.reflection.v1.ServerReflection` over the mounted services.
#[derive(Clone)]
pub struct Reflection(Arc<Index>);

struct Index {
    services: Vec<String>,
    pool: DescriptorPool,
    files: BTreeMap<String, File>,
}

struct File {
    encoded: Bytes,
    imports: Vec<String>,
}

impl Reflection {
    /// Reflects these services, each with its encoded descriptors, and itself.
    ///
    /// # Errors
    /// If the descriptors are broken or contradict each other.
    pub fn new(services: &[(&'static str, &'static [u8])]) -> Result<Self> {
        let broken = |what: String| Error::internal(format!("the descriptors are broken: {what}"));
        let mut files = BTreeMap::new();
        let mut merged = FileDescriptorSet::default();
        let own = (server_reflection::NAME, crate::proto::FILE_DESCRIPTOR_SET);
        let services: Vec<_> = services.iter().copied().chain([own]).collect();
        for (_, descriptors) in &services {
            let set = FileDescriptorSet::decode_from_slice(descriptors).map_err(|e| broken(e.to_string()))?;
            for file in set.file {
                let Some(name) = file.name.clone() else { continue };
                if files.contains_key(&name) {
                    continue;
                }
                files
                    .insert(name, File { encoded: file.encode_to_bytes(), imports: file.dependency.clone() });
                merged.file.push(file);
            }
        }
        let pool = DescriptorPool::new(merged).map_err(|e| broken(e.to_string()))?;
        let services = services.iter().map(|(name, _)| (*name).to_owned()).collect();
        Ok(Self(Arc::new(Index { services, pool, files })))
    }

    /// The service to mount.
    pub fn service(&self) -> ServiceDef {
        server_reflection::server(self.clone())
    }
}

impl Index {
    fn answer(&self, request: &ServerReflectionRequest) -> server_reflection_response::MessageResponse {
        use server_reflection_request::MessageRequest as Ask;
        use server_reflection_response::MessageResponse as Answer;
        let file = |found: Option<&str>, what: &str| match found {
            Some(name) => Answer::FileDescriptorResponse(Box::new(self.closure(name))),
            None => Answer::ErrorResponse(Box::new(not_found(what))),
        };
        match &request.message_request {
            Some(Ask::FileByFilename(name)) => file(self.files.contains_key(name).then_some(name), name),
            Some(Ask::FileContainingSymbol(symbol)) => file(self.file_of(symbol), symbol),
            Some(Ask::FileContainingExtension(ask)) => {
                let extension = self
                    .pool
                    .message_index(&ask.containing_type)
                    .zip(u32::try_from(ask.extension_number).ok())
                    .and_then(|(message, number)| self.pool.extension_for(message, number));
                file(extension.and_then(|e| self.file_of(e.full_name())), &ask.containing_type)
            }
            Some(Ask::AllExtensionNumbersOfType(message)) => match self.pool.message_index(message) {
                None => Answer::ErrorResponse(Box::new(not_found(message))),
                Some(index) => Answer::AllExtensionNumbersResponse(Box::new(ExtensionNumberResponse {
                    base_type_name: message.clone(),
                    extension_number: self
                        .pool
                        .extensions_of(index)
                        .filter_map(|e| i32::try_from(e.field().number()).ok())
                        .collect(),
                    ..Default::default()
                })),
            },
            Some(Ask::ListServices(_)) => {
                let service = self
                    .services
                    .iter()
                    .map(|name| ServiceResponse { name: name.clone(), ..Default::default() })
                    .collect();
                Answer::ListServicesResponse(Box::new(ListServiceResponse { service, ..Default::default() }))
            }
            None => Answer::ErrorResponse(Box::new(error(
                Code::InvalidArgument,
                "the request asks nothing".into(),
            ))),
        }
    }

    fn file_of(&self, symbol: &str) -> Option<&str> {
        self.pool.file_containing_symbol(symbol)?.name.as_deref()
    }

    /// The file and all it imports, each once.
    fn closure(&self, name: &str) -> FileDescriptorResponse {
        let (mut seen, mut open) = (BTreeSet::new(), vec![name]);
        let mut files = Vec::new();
        while let Some(name) = open.pop() {
            let Some(file) = self.files.get(name).filter(|_| seen.insert(name)) else { continue };
            files.push(file.encoded.to_vec());
            open.extend(file.imports.iter().map(String::as_str));
        }
        FileDescriptorResponse { file_descriptor_proto: files, ..Default::default() }
    }
}

fn not_found(what: &str) -> ErrorResponse {
    error(Code::NotFound, format!("`{what}` is not known here"))
}

fn error(code: Code, message: String) -> ErrorResponse {
    ErrorResponse { error_code: code as i32, error_message: message, ..Default::default() }
}

impl server_reflection::Service for Reflection {
    async fn server_reflection_info(
        &self,
        _cx: &Context,
        req: Streaming<ServerReflectionRequest>,
    ) -> Result<Streaming<ServerReflectionResponse>> {
        let index = Arc::clone(&self.0);
        Ok(req.try_map(move |request| {
            let answer = index.answer(&request);
            Ok(ServerReflectionResponse {
                valid_host: request.host.clone(),
                original_request: request.into(),
                message_response: Some(answer),
                ..Default::default()
            })
        }))
    }
}
