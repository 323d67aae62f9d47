
#[allow(missing_docs, missing_debug_implementations)]
pub mod uses {
    use bowline_rpc::codegen::{Caller, Context, Error, Result, ServiceDef, Streaming, buffa_types};
    use buffa_types::google::protobuf::Empty;

    use crate::shop_api::google::api::HttpBody;
    use crate::shop_api::shop::catalog::v1::{CatalogError, GetItemRequest, Item, ListRequest, catalog_error, catalog_service, item, Type};
    use crate::shop_api::shop::money::v1::Money;
    use crate::shop_api::{Node, tree};

    pub struct Catalog;

    impl catalog_service::Service for Catalog {
        async fn get_item(&self, _cx: &Context, req: GetItemRequest) -> Result<Item> {
            Ok(Item { id: req.id, ..Default::default() })
        }
        async fn list(&self, _cx: &Context, _req: ListRequest) -> Result<Streaming<Item>> {
            Err(catalog_error::item_not_found())
        }
        async fn upload(&self, _cx: &Context, _req: Streaming<Item>) -> Result<Empty> {
            Ok(Empty::default())
        }
        async fn chat(&self, _cx: &Context, req: Streaming<Item>) -> Result<Streaming<Item>> {
            Ok(req)
        }
        async fn export(&self, _cx: &Context, _req: Empty) -> Result<HttpBody> {
            Ok(HttpBody::default())
        }
        async fn price(&self, _cx: &Context, _req: Item) -> Result<Money> {
            Ok(Money::default())
        }
        async fn nested(&self, _cx: &Context, req: item::Part) -> Result<item::Part> {
            Ok(req)
        }
        async fn new_(&self, _cx: &Context, req: Item) -> Result<Item> {
            Ok(req)
        }
        async fn self_(&self, _cx: &Context, req: Item) -> Result<Item> {
            Ok(req)
        }
        async fn r#match(&self, _cx: &Context, _req: Item) -> Result<Type> {
            Ok(Type::default())
        }
        async fn clone_(&self, _cx: &Context, req: Item) -> Result<Item> {
            Ok(req)
        }
        async fn into(&self, _cx: &Context, req: Item) -> Result<Item> {
            Ok(req)
        }
    }

    pub struct Walker;

    impl tree::Service for Walker {
        async fn walk(&self, _cx: &Context, _req: Node) -> Result<Streaming<Node>> {
            Err(catalog_error::r#type())
        }
    }

    pub fn mount() -> [ServiceDef; 3] {
        let shared = std::sync::Arc::new(Catalog);
        [catalog_service::server(Catalog), catalog_service::server(shared), tree::server(Walker)]
    }

    pub async fn call(cx: &Context, caller: Caller, stream: Streaming<Item>) -> Result<Item> {
        let client = catalog_service::Client::new(caller).clone();
        let _: Empty = client.upload(cx, stream).await?;
        let _: Money = client.price(cx, Item::default()).await?;
        let item = client.get_item(cx, GetItemRequest::default()).await;
        if item.as_ref().is_err_and(catalog_error::is_sold_out) {
            let _ = CatalogError::CATALOG_ERROR_SOLD_OUT;
        }
        item
    }

    pub fn known() -> (usize, &'static str, &'static str) {
        let methods = catalog_service::METHODS;
        (methods.len(), catalog_service::methods::GET_ITEM.http[1].pattern, catalog_service::NAME)
    }

    pub fn ask(err: &Error) -> bool {
        catalog_error::is_item_not_found(err) || catalog_error::DOMAIN.is_empty()
    }
}
