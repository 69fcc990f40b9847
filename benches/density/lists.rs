//! Lists of page numbers, last in, first out, from which any page can be taken.

/// The number that stands for no page.
const NONE: u32 = u32::MAX;

/// Lists of pages. A page is on one of them at most.
pub struct Lists {
    heads: Vec<u32>,
    /// For each page its list, the page before it and the page after it.
    links: Vec<(u32, u32, u32)>,
}

impl Lists {
    /// Makes this many empty lists.
    pub fn new(count: usize) -> Self {
        Self { heads: vec![NONE; count], links: Vec::new() }
    }

    /// Returns the page that was put on a list last.
    pub fn first(&self, list: usize) -> Option<usize> {
        Some(self.heads[list]).filter(|&page| page != NONE).map(|page| page as usize)
    }

    /// Puts a page, which is on no list, at the front of one.
    pub fn put(&mut self, list: usize, page: usize) {
        if self.links.len() <= page {
            self.links.resize(page + 1, (NONE, NONE, NONE));
        }
        let next = std::mem::replace(&mut self.heads[list], page as u32);
        self.links[page] = (list as u32, NONE, next);
        if next != NONE {
            self.links[next as usize].1 = page as u32;
        }
    }

    /// Takes a page off its list, if it is on one.
    pub fn take(&mut self, page: usize) {
        let Some(&(list, before, next)) = self.links.get(page).filter(|link| link.0 != NONE) else { return };
        match before {
            NONE => self.heads[list as usize] = next,
            before => self.links[before as usize].2 = next,
        }
        if next != NONE {
            self.links[next as usize].1 = before;
        }
        self.links[page] = (NONE, NONE, NONE);
    }
}
