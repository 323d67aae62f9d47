//! The instances of a service, arranged so that a pick is cheap.

use std::collections::{BTreeMap, HashMap, HashSet};

use bowline_core::{InstanceId, Instant};

use crate::pool::Standing;
use crate::route::Route;
use crate::{Ask, Candidate, Picker, Pool, Redirect, Request, SlowStart, Subsetting, Unroutable, Zones};

/// How instances are arranged. The defaults: everybody connects to everybody, zones are not known, clusters share by
/// their size, and new instances warm up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IndexOptions {
    /// Which instances of each cluster take the traffic.
    pub subset: Subsetting,
    /// How zones share the traffic.
    pub zones: Zones,
    /// What each cluster gets against the others of its zone. One that is not named gets what its instances weigh
    /// together (100 each, unless they say otherwise), so name all or none. A cluster gets less once fewer than 5 in
    /// 7 of its weight can be used. What is negative or no number counts as not named.
    pub clusters: BTreeMap<String, f64>,
    /// How new instances begin.
    pub slow_start: SlowStart,
    /// Where round robin begins: another number for each client, so that not all begin with the same instance.
    pub seed: u64,
}

/// The candidates of a service by tenant, zone, cluster and subset. Immutable; derefs to the candidates, at the
/// positions that a pick gives.
#[derive(Debug)]
pub struct Index<C> {
    candidates: Box<[C]>,
    service: Box<str>,
    routes: HashMap<Box<str>, Route>,
    ids: HashMap<Box<str>, usize>,
}

/// Where a request goes.
enum Way<'a> {
    /// To the instance at that position.
    Instance(usize),
    /// To whoever the picker chooses there; `None` if there is nobody.
    Route(Option<&'a Route>),
}

impl<C: Candidate> Index<C> {
    /// Arranges the instances that want traffic. What is new against `previous` warms up from `now` on; in a first
    /// index nobody does, for then all are equally new.
    ///
    /// Shares of zones and clusters are those of the instances that can be used now. So it is to be built anew not
    /// only with each list, but also after each [sweep](crate::Ejection::sweep), and when an instance can no longer
    /// be reached or can again. Until then nobody is lost: who cannot be used is passed over by each pick.
    pub fn build(candidates: Vec<C>, options: &IndexOptions, previous: Option<&Self>, now: Instant) -> Self {
        Self::arrange(candidates, options, true, previous, now)
    }

    /// All in one pool: whoever asks may be given anybody, of whichever tenant, zone and cluster.
    pub fn flat(candidates: Vec<C>, options: &IndexOptions, previous: Option<&Self>, now: Instant) -> Self {
        Self::arrange(candidates, options, false, previous, now)
    }

    fn arrange(
        candidates: Vec<C>,
        options: &IndexOptions,
        divided: bool,
        previous: Option<&Self>,
        now: Instant,
    ) -> Self {
        let known: HashSet<&str> =
            previous.iter().flat_map(|index| index.ids.keys()).map(|id| &**id).collect();
        let mut tenants: HashMap<&str, Vec<u32>> = HashMap::new();
        for (position, candidate) in candidates.iter().enumerate() {
            if !known.is_empty() && !known.contains(candidate.instance().id.as_str()) {
                candidate.load().warm_up(now);
            }
            let tenant = if divided { candidate.instance().tenant.as_str() } else { "" };
            tenants.entry(tenant).or_default().push(position as u32);
        }
        let routes = tenants.into_iter().map(|(tenant, members)| {
            let before = previous.and_then(|index| index.routes.get(tenant));
            (tenant.into(), Route::build(&candidates, members, options, divided, before, now))
        });
        let routes = routes.collect();
        let ids = candidates.iter().enumerate().map(|(i, c)| (c.instance().id.as_str().into(), i)).collect();
        let service = candidates.first().map_or("", |c| &c.instance().service).into();
        Self { candidates: candidates.into(), service, routes, ids }
    }

    /// Who gets the request, as a position among the candidates. `None` if there is nobody.
    ///
    /// - A request of production goes to instances of the base, and to nobody else.
    /// - A tenant's goes where its redirect says, if that is there; else to its own instances; else to the base.
    ///   Instances of which none can be reached, or all are ejected, are as good as none, as long as there is
    ///   anybody better.
    ///
    /// # Errors
    /// The request is strict, and its tenant has no instance here.
    pub fn pick(
        &self,
        picker: &impl Picker,
        request: &Request<'_>,
        ask: &Ask<'_>,
    ) -> Result<Option<usize>, Unroutable> {
        Ok(match self.way(request, ask)? {
            Way::Instance(position) => Some(position),
            Way::Route(route) => route.and_then(|route| route.pick(picker, &self.candidates, ask)),
        })
    }

    /// Whether a pick would give somebody that was not tried. This only looks: it takes no turn and no probe.
    pub fn has_untried(&self, request: &Request<'_>, ask: &Ask<'_>) -> bool {
        match self.way(request, ask) {
            Ok(Way::Instance(position)) => {
                self.candidates[position].is_live() && !ask.tried.contains(&position)
            }
            Ok(Way::Route(Some(route))) => route.standing(&self.candidates, ask) < Standing::Tried,
            Ok(Way::Route(None)) | Err(_) => false,
        }
    }

    /// Where a request goes.
    fn way(&self, request: &Request<'_>, ask: &Ask<'_>) -> Result<Way<'_>, Unroutable> {
        let base = self.routes.get("");
        if request.tenant.is_empty() {
            return Ok(Way::Route(base));
        }
        let wanted = match request.redirect(&self.service) {
            Some(Redirect::Instance(id)) => match self.redirected(id, request, ask) {
                Some(position) => return Ok(Way::Instance(position)),
                None => None,
            },
            Some(Redirect::Tenant(tenant)) => self.routes.get(tenant),
            None => None,
        };
        let own = wanted.or_else(|| self.routes.get(request.tenant));
        Ok(Way::Route(match (own, base) {
            (Some(own), _) if request.strict => Some(own),
            (None, _) if request.strict => return Err(self.unroutable(request)),
            (Some(own), Some(base)) => {
                let standing = |route: &Route| route.standing(&self.candidates, ask);
                let own_stands = standing(own);
                let falls_back = own_stands > Standing::Well && standing(base) < own_stands;
                Some(if falls_back { base } else { own })
            }
            (own, base) => own.or(base),
        }))
    }

    /// The instance that the request names, if it can be reached or nobody else may have it.
    fn redirected(&self, id: &str, request: &Request<'_>, ask: &Ask<'_>) -> Option<usize> {
        let position = *self.ids.get(id)?;
        let is_usable = self.candidates[position].is_live() && !ask.tried.contains(&position);
        (is_usable || request.strict).then_some(position)
    }

    fn unroutable(&self, request: &Request<'_>) -> Unroutable {
        Unroutable { tenant: request.tenant.into(), service: (*self.service).into() }
    }

    /// All pools. Their subsets are what to connect to.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.routes.values().flat_map(Route::pools)
    }

    /// Where an instance is.
    pub fn position(&self, id: &InstanceId) -> Option<usize> {
        self.ids.get(id.as_str()).copied()
    }
}

impl<C> std::ops::Deref for Index<C> {
    type Target = [C];

    fn deref(&self) -> &[C] {
        &self.candidates
    }
}
