//! Puts the pages of one list together while the list may move. Pure: which
//! page to ask for next, and when the rows are complete.
//!
//! The order of the lists is not documented. A row that comes or goes between
//! two pages shifts the ones behind it, and `TotalCount` is the only sign of it.
//! So a list whose total changes is read again from the start, once. If it
//! moves again, a list that only grew is taken: shifted rows come twice, and
//! are dropped here; at worst the newest row waits for the next poll. A list
//! that shrank may have lost any row, which is an error.
//!
//! A list may also come in another order each time, as a database without one
//! gives it. Where rows have ids, some come twice then and others not at all, and
//! the total tells: such a list is read again, until it is complete or two
//! readings agree, whose repeated rows are then the cloud's own.

use std::collections::HashSet;
use std::hash::Hash;

use super::Answer;

/// One page of some list.
pub trait Page: Answer {
    /// What it lists.
    type Rows: Rows;

    /// The rows, the size of a page and the rows of all pages, as it states them.
    fn into_parts(self) -> (Self::Rows, Option<i64>, Option<i64>);
}

/// The rows of a list, as far as they are known.
pub trait Rows: Default {
    /// Whether rows have ids: the same one twice means that the list has moved.
    const IDENTIFIED: bool;

    /// How many there are.
    fn count(&self) -> usize;
    /// Takes the rows of the next page.
    fn append(&mut self, page: Self);
    /// How many different ones there are.
    fn distinct(&self) -> usize;
    /// Drops those that came before.
    fn dedup(&mut self);
    /// Whether the same rows are here and there, in whatever order and number.
    fn same(&self, other: &Self) -> bool;
}

impl<T: Clone + Eq + Hash> Rows for Vec<T> {
    const IDENTIFIED: bool = true;

    fn count(&self) -> usize {
        self.len()
    }

    fn append(&mut self, page: Self) {
        self.extend(page);
    }

    fn distinct(&self) -> usize {
        self.iter().collect::<HashSet<_>>().len()
    }

    fn dedup(&mut self) {
        let mut seen = HashSet::with_capacity(self.len());
        self.retain(|row| seen.insert(row.clone()));
    }

    fn same(&self, other: &Self) -> bool {
        let (here, there): (HashSet<_>, HashSet<_>) =
            (self.iter().collect(), other.iter().collect());
        here == there
    }
}

/// Why a list cannot be had whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Incomplete {
    /// More pages than allowed.
    #[error("the list has more than {0} pages; max_pages allows more")]
    TooLong(u32),
    /// It is not empty by its own account, but its first page is.
    #[error("the list is said to have {0} entries, and none has come")]
    Missing(i64),
    /// Entries came twice and others not at all, however often it was read.
    #[error(
        "the list came in another order on each page: {known} of {total} entries could be read"
    )]
    Shuffled {
        /// Different entries of the last reading.
        known: usize,
        /// As the cloud counts them.
        total: i64,
    },
    /// It shrank while it was read, twice.
    #[error("the list shrank while it was read, and again when it was read anew")]
    Moved,
}

/// Times that a list is read before it is given up for its order.
const READINGS: u32 = 3;

/// A list under way.
#[derive(Debug)]
pub(super) struct Pages<R> {
    asked_size: usize,
    limit: u32,
    number: u32,
    rows: R,
    /// The size of the pages as it turned out.
    size: usize,
    total: Option<i64>,
    again: bool,
    moved: bool,
    readings: u32,
    /// The rows of the reading before, which was not complete.
    before: R,
}

impl<R: Rows> Pages<R> {
    /// A list read in pages of `page_size`, of which there may be `max_pages`.
    pub(super) fn new(page_size: u32, max_pages: u32) -> Self {
        Self {
            asked_size: usize::try_from(page_size).unwrap_or(usize::MAX),
            limit: max_pages,
            number: 1,
            rows: R::default(),
            size: 0,
            total: None,
            again: false,
            moved: false,
            readings: 1,
            before: R::default(),
        }
    }

    /// The page to ask for, from 1.
    pub(super) fn next(&self) -> u32 {
        self.number
    }

    /// The rows of the pages taken so far.
    pub(super) fn so_far(self) -> R {
        self.rows
    }

    /// Takes the page asked for: its rows, the size of a page and the rows of
    /// all pages as the answer states them. `Some` are the rows of the list.
    pub(super) fn add(
        &mut self,
        rows: R,
        stated_size: Option<i64>,
        total: Option<i64>,
    ) -> Result<Option<R>, Incomplete> {
        let count = rows.count();
        if self.number == 1 {
            self.size = stated_size
                .and_then(|size| usize::try_from(size).ok())
                .filter(|size| *size > 0)
                .unwrap_or(self.asked_size);
            // More rows exist than came: the cloud caps its pages and states
            // the size that was asked for. Taking that for the end would lose
            // the rest silently.
            if total.is_some_and(|total| exceeds(total, count)) && count > 0 {
                self.size = self.size.min(count);
            }
            self.total = total;
            if let Some(total) = total.filter(|total| *total > 0 && count == 0) {
                return Err(Incomplete::Missing(total));
            }
        } else if let (Some(before), Some(now)) = (self.total, total)
            && before != now
        {
            if !self.again {
                self.again = true;
                self.number = 1;
                self.rows = R::default();
                return Ok(None);
            }
            if now < before {
                return Err(Incomplete::Moved);
            }
            self.moved = true;
            self.total = total;
        }
        self.rows.append(rows);

        let reached = self.size.saturating_mul(self.number as usize);
        let complete = count == 0
            || count < self.size
            || self.total.is_some_and(|total| !exceeds(total, reached));
        if complete {
            let mut rows = std::mem::take(&mut self.rows);
            // A list that has grown is judged by that already; one page cannot move.
            let judged = self.moved || self.number == 1;
            if R::IDENTIFIED && !judged && !self.agrees(&rows)? {
                self.readings += 1;
                self.before = rows;
                self.number = 1;
                return Ok(None);
            }
            if self.moved {
                rows.dedup();
            }
            return Ok(Some(rows));
        }
        if self.number >= self.limit {
            return Err(Incomplete::TooLong(self.limit));
        }
        self.number += 1;
        Ok(None)
    }

    /// Whether the list may be taken as `rows`, instead of being read again.
    fn agrees(&self, rows: &R) -> Result<bool, Incomplete> {
        let Some(total) = self.total else {
            return Ok(true);
        };
        let known = rows.distinct();
        if known == rows.count() || !exceeds(total, known) || rows.same(&self.before) {
            return Ok(true);
        }
        if self.readings == READINGS {
            return Err(Incomplete::Shuffled { known, total });
        }
        Ok(false)
    }
}

fn exceeds(total: i64, count: usize) -> bool {
    i64::try_from(count).is_ok_and(|count| total > count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows without ids.
    #[derive(Debug, Default, PartialEq)]
    struct Tags(Vec<&'static str>);

    impl Rows for Tags {
        const IDENTIFIED: bool = false;

        fn count(&self) -> usize {
            self.0.len()
        }

        fn append(&mut self, page: Self) {
            self.0.extend(page.0);
        }

        fn distinct(&self) -> usize {
            self.0.distinct()
        }

        fn dedup(&mut self) {
            Rows::dedup(&mut self.0);
        }

        fn same(&self, other: &Self) -> bool {
            self.0.same(&other.0)
        }
    }

    /// A page: rows `from..to`, the size and the total that it states.
    type Page = (std::ops::Range<u32>, Option<i64>, Option<i64>);

    /// Answers one page after the other; the result and the pages asked for.
    fn read(max_pages: u32, script: &[Page]) -> (Result<Vec<u32>, Incomplete>, Vec<u32>) {
        let mut pages = Pages::new(100, max_pages);
        let mut asked = Vec::new();
        for (rows, size, total) in script {
            asked.push(pages.next());
            match pages.add(rows.clone().collect(), *size, *total) {
                Ok(None) => {}
                Ok(Some(rows)) => return (Ok(rows), asked),
                Err(error) => return (Err(error), asked),
            }
        }
        panic!("asked for more than {asked:?}");
    }

    fn complete(script: &[Page], rows: u32, asked: &[u32]) {
        let (read, pages) = read(100, script);
        assert_eq!(read, Ok((0..rows).collect()), "{script:?}");
        assert_eq!(pages, asked, "{script:?}");
    }

    #[test]
    fn a_list_ends_where_its_total_or_a_short_page_says() {
        complete(&[(0..0, Some(100), Some(0))], 0, &[1]);
        complete(&[(0..0, None, None)], 0, &[1]);
        complete(&[(0..7, Some(100), Some(7))], 7, &[1]);
        complete(&[(0..7, None, None)], 7, &[1]);
        complete(&[(0..100, Some(100), Some(100))], 100, &[1]);
        complete(
            &[
                (0..100, Some(100), Some(250)),
                (100..200, Some(100), Some(250)),
                (200..250, Some(100), Some(250)),
            ],
            250,
            &[1, 2, 3],
        );
        // Without a total a full page may be followed by an empty one.
        complete(
            &[(0..100, None, None), (100..100, None, None)],
            100,
            &[1, 2],
        );
        complete(
            &[(0..100, None, None), (100..130, None, None)],
            130,
            &[1, 2],
        );
    }

    #[test]
    fn the_size_that_the_cloud_used_counts() {
        complete(
            &[
                (0..30, Some(30), Some(65)),
                (30..60, Some(30), Some(65)),
                (60..65, Some(30), Some(65)),
            ],
            65,
            &[1, 2, 3],
        );
        // Capped, but stating what was asked for.
        complete(
            &[
                (0..30, Some(100), Some(65)),
                (30..60, Some(100), Some(65)),
                (60..65, Some(100), Some(65)),
            ],
            65,
            &[1, 2, 3],
        );
        // A total that promises more than there is ends in an empty page.
        complete(
            &[(0..30, Some(100), Some(65)), (30..30, Some(100), Some(65))],
            30,
            &[1, 2],
        );
        // Sizes that cannot be.
        complete(
            &[
                (0..100, Some(0), Some(120)),
                (100..120, Some(-5), Some(120)),
            ],
            120,
            &[1, 2],
        );
    }

    #[test]
    fn a_list_with_too_many_pages_is_an_error() {
        let page = |n: u32| (n * 100..(n + 1) * 100, Some(100), Some(201));
        let (result, asked) = read(2, &[page(0), page(1)]);
        assert_eq!(result, Err(Incomplete::TooLong(2)));
        assert_eq!(asked, [1, 2]);
        let fits = [
            (0..100, Some(100), Some(200)),
            (100..200, Some(100), Some(200)),
        ];
        assert_eq!(read(2, &fits).0.map(|rows| rows.len()), Ok(200));
    }

    #[test]
    fn a_total_that_changes_starts_the_list_over_once() {
        let (result, asked) = read(
            100,
            &[
                (0..100, Some(100), Some(150)),
                (99..150, Some(100), Some(151)),
                (0..100, Some(100), Some(151)),
                (100..151, Some(100), Some(151)),
            ],
        );
        assert_eq!(result, Ok((0..151).collect()));
        assert_eq!(asked, [1, 2, 1, 2]);
    }

    #[test]
    fn a_list_that_goes_on_growing_is_taken_without_the_rows_that_came_twice() {
        let (result, asked) = read(
            100,
            &[
                (0..100, Some(100), Some(150)),
                (99..150, Some(100), Some(151)),
                (0..100, Some(100), Some(151)),
                (98..152, Some(100), Some(153)),
            ],
        );
        assert_eq!(result, Ok((0..152).collect()));
        assert_eq!(asked, [1, 2, 1, 2]);
    }

    #[test]
    fn a_list_that_shrinks_twice_may_have_lost_rows() {
        let (result, _) = read(
            100,
            &[
                (0..100, Some(100), Some(150)),
                (101..150, Some(100), Some(149)),
                (0..100, Some(100), Some(149)),
                (101..149, Some(100), Some(148)),
            ],
        );
        assert_eq!(result, Err(Incomplete::Moved));
    }

    #[test]
    fn a_list_in_another_order_each_time_is_read_again() {
        let first = (0..100, Some(100), Some(150));
        let shifted = (50..100, Some(100), Some(150));
        let whole = (100..150, Some(100), Some(150));
        let script = [first.clone(), shifted.clone(), first.clone(), whole];
        let (result, asked) = read(100, &script);
        assert_eq!(result, Ok((0..150).collect()));
        assert_eq!(asked, [1, 2, 1, 2]);

        // Twice the same: the cloud repeats rows, or counts wrongly.
        let script = [
            first.clone(),
            shifted.clone(),
            first.clone(),
            shifted.clone(),
        ];
        let repeated: Vec<u32> = (0..100).chain(50..100).collect();
        assert_eq!(read(100, &script).0, Ok(repeated));

        let page = |from: u32| (from..from + 50, Some(100), Some(150));
        let script = [
            first.clone(),
            page(50),
            first.clone(),
            page(49),
            first,
            page(48),
        ];
        let known = 100;
        let shuffled = Incomplete::Shuffled { known, total: 150 };
        let mut script = script;
        // Each reading has other rows.
        script[2].0 = 1..101;
        script[4].0 = 2..102;
        assert_eq!(read(100, &script).0, Err(shuffled));
    }

    #[test]
    fn a_list_that_says_it_has_entries_and_gives_none_is_not_empty() {
        let (result, _) = read(100, &[(0..0, Some(100), Some(3))]);
        assert_eq!(result, Err(Incomplete::Missing(3)));
        complete(&[(0..0, Some(100), Some(-1))], 0, &[1]);
    }

    #[test]
    fn rows_that_repeat_in_a_list_at_rest_are_left_to_the_reader() {
        let page = |tags: &[&'static str]| Tags(tags.to_vec());
        let mut pages = Pages::new(2, 10);
        assert_eq!(pages.add(page(&["1", "1"]), Some(2), Some(3)), Ok(None));
        assert_eq!(
            pages.add(page(&["1"]), Some(2), Some(3)),
            Ok(Some(page(&["1", "1", "1"])))
        );

        // Unlike in one that goes on growing.
        let mut pages = Pages::new(2, 10);
        for (tags, total) in [(&["1", "2"], 3), (&["2", "3"], 4), (&["1", "2"], 4)] {
            assert_eq!(pages.add(page(tags), Some(2), Some(total)), Ok(None));
        }
        assert_eq!(pages.add(page(&["2", "3"]), Some(2), Some(5)), Ok(None));
        assert_eq!(
            pages.add(page(&["4"]), Some(2), Some(5)),
            Ok(Some(page(&["1", "2", "3", "4"])))
        );
    }
}
