//! Lists a page at a time.

/// How many elements a page has: 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u32);

impl PageSize {
    /// What a page has when nobody says.
    pub const DEFAULT: Self = Self(20);
    /// The most a page has.
    pub const MAX: Self = Self(100);

    /// The size for what was asked for: the default for 0, no more than the most; `None` for less than 0.
    pub fn new(asked: i32) -> Option<Self> {
        match u32::try_from(asked).ok()? {
            0 => Some(Self::DEFAULT),
            size => Some(Self(size.min(Self::MAX.0))),
        }
    }

    /// The size.
    pub fn get(self) -> usize {
        self.0 as usize
    }

    /// What to ask a database for: one more than a page has, to see whether another page follows.
    pub fn and_one_more(self) -> i64 {
        i64::from(self.0) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_never_empty_and_never_huge() {
        let size = |asked| PageSize::new(asked).map(PageSize::get);
        assert_eq!((size(0), size(1), size(7)), (Some(20), Some(1), Some(7)));
        assert_eq!((size(i32::MAX), size(-1)), (Some(100), None));
        assert_eq!(PageSize::MAX.and_one_more(), 101);
    }
}
