//! Pages of lists that span load balancers, read part by part (D20).

use krater_controller_core::{
    limits,
    model::ProjectId,
    query::{Answer, Query},
    refusal::Refusal,
    scan::{Among, Excerpt, Order, Position, Scan},
};

use crate::{
    context::Context,
    fault::Fault,
    filter::Filter,
    kind::{self, parse_id},
    page::Paging,
    path::Kind,
    wire::row::Item,
};

/// Reads one page.
pub(crate) struct Walk<'a> {
    /// The request.
    pub(crate) context: &'a Context<'a>,
    /// What is listed.
    pub(crate) kind: Kind,
    /// Whose; everybody's if there is none.
    pub(crate) project: Option<ProjectId>,
    /// The fewest among which the filter can select.
    pub(crate) among: Among,
    /// What is selected.
    pub(crate) filter: &'a Filter,
    /// Which page.
    pub(crate) paging: &'a Paging,
}

impl Walk<'_> {
    /// The objects of the page, in its order.
    pub(crate) async fn items(&self) -> Result<Vec<Item>, Fault> {
        let marker = match self.paging.marker() {
            None => None,
            Some(text) => Some(self.marker(text).await?),
        };
        match self.paging.way() {
            // Only in the order of creation few are found as fast as all.
            Some(way) if self.among == Among::All || way == Order::CREATION => {
                self.along(way, marker.map(|(position, _)| position)).await
            }
            _ => self.through(marker.map(|(_, item)| item)).await,
        }
    }

    /// Goes from the marker on until the page is full: as far as the page is long, however long the list is.
    async fn along(&self, way: Order, marker: Option<Position>) -> Result<Vec<Item>, Fault> {
        let limit = self.paging.limit();
        let mut items = Vec::new();
        let mut after = marker;
        let mut selective = false;
        while items.len() < limit {
            // What the filter lets through of the next ones is unknown once it has held some back.
            let count = if selective {
                limits::SCAN_MAX
            } else {
                limits::SCAN_MAX.min(limit - items.len())
            };
            let part = self
                .scan(self.among.clone(), way, after.take(), count)
                .await?;
            let is_last = part.len() < count;
            after = part.last().map(|last| last.position.clone());
            for excerpt in &part {
                match self.selected(excerpt) {
                    Some(item) if items.len() < limit => items.push(item),
                    Some(_) => break,
                    None => selective = true,
                }
            }
            if is_last {
                break;
            }
        }
        if self.paging.leads_back() {
            items.reverse();
        }
        Ok(items)
    }

    /// Goes through the whole list and picks the page out of it.
    async fn through(&self, marker: Option<Item>) -> Result<Vec<Item>, Fault> {
        let mut pick = self.paging.pick(marker);
        let mut after = None;
        loop {
            let count = limits::SCAN_MAX;
            let part = self
                .scan(self.among.clone(), Order::CREATION, after.take(), count)
                .await?;
            let is_last = part.len() < count;
            after = part.last().map(|last| last.position.clone());
            for item in part.iter().filter_map(|excerpt| self.selected(excerpt)) {
                pick.offer(item);
            }
            if is_last {
                return Ok(pick.finish());
            }
        }
    }

    /// The object the marker names, if it is in the list.
    async fn marker(&self, text: &str) -> Result<(Position, Item), Fault> {
        let found = match parse_id(text) {
            // Ids have one spelling.
            Some(id) if id.to_string() == text => {
                self.scan(Among::One(id), Order::CREATION, None, 1).await?
            }
            _ => Vec::new(),
        };
        let found = found.first().and_then(|excerpt| {
            let item = self.selected(excerpt)?;
            Some((excerpt.position.clone(), item))
        });
        found.ok_or_else(|| self.paging.no_such_marker())
    }

    /// The resource as it is shown, if it is selected. What a scan asks for is a hint to the store; that nobody sees
    /// another's is for certain.
    fn selected(&self, excerpt: &Excerpt) -> Option<Item> {
        let project = self.project.as_ref();
        if project.is_some_and(|project| excerpt.view.tree.project() != project) {
            return None;
        }
        kind::excerpt(excerpt).filter(|item| self.filter.selects(&item.object))
    }

    async fn scan(
        &self,
        among: Among,
        order: Order,
        after: Option<Position>,
        count: usize,
    ) -> Result<Vec<Excerpt>, Fault> {
        let scan = Scan {
            collection: self.kind.collection(),
            project: self.project.clone(),
            among,
            order,
            after,
            count,
        };
        match self.context.answer(Query::Scan(scan)).await? {
            Answer::Scan(part) => Ok(part),
            _ => Err(Refusal::Defect("the answer is not to the query".into()).into()),
        }
    }
}
