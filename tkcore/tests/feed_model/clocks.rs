//! What a client's clocks can hide from it, at worst. Where they hide nothing, a state that may be
//! decided by is younger than its validity in true time; where they do, by no more than they hid.

/// True time, the client's wall clock, and bounds of how far the two together mislead it.
pub(crate) struct Clocks {
    /// True time in milliseconds.
    pub(crate) now: u64,
    /// How far the wall clock is off.
    pub(crate) offset: i64,
    /// True time less what the client can prove from heads and its monotonic clock.
    behind: u64,
    /// What was hidden when the head in force was taken, and sleep since.
    hidden: u64,
    /// How far ahead of true time the client may believe to be.
    ahead: u64,
    /// What its monotonic clock counted since it started.
    counted: u64,
}

impl Clocks {
    pub(crate) const fn new(now: u64) -> Self {
        Self { now, offset: 0, behind: 0, hidden: 0, ahead: 0, counted: 0 }
    }

    /// How far the wall clock is set back.
    fn back(&self) -> u64 {
        u64::try_from(-self.offset).unwrap_or(0)
    }

    pub(crate) fn set(&mut self, offset: i64) {
        self.offset = offset;
        self.ahead = self.ahead.max(u64::try_from(offset).unwrap_or(0));
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now += millis;
        self.counted += millis;
    }

    /// True time goes on, the monotonic clock does not.
    pub(crate) fn sleep(&mut self, millis: u64) {
        self.now += millis;
        self.behind += millis;
        self.hidden += millis;
    }

    /// A process that starts has the wall clock and the floor's time of issue, which whoever took it
    /// may have believed to be a skew ahead.
    pub(crate) fn started(&mut self, floor_issued: u64, skew: u64) {
        let proven = floor_issued.saturating_sub(skew);
        self.behind = self.now.saturating_sub(proven);
        self.hidden = self.behind.min(self.back());
        self.ahead = proven.saturating_sub(self.now).max(u64::try_from(self.offset).unwrap_or(0));
        self.counted = 0;
    }

    /// A head was taken, which proves that it is later than its time of issue.
    pub(crate) fn took(&mut self, issued: u64, is_new_epoch: bool) {
        // Only the wall clock counts before the first head of an epoch.
        self.hidden = if is_new_epoch { self.back() } else { self.behind.min(self.back()) };
        let proven = self.now.saturating_sub(issued).max(self.hidden);
        self.behind = if is_new_epoch { proven } else { self.behind.min(proven) };
    }

    /// How much older than it seems the state in force may be.
    pub(crate) fn hides(&self) -> u64 {
        self.hidden.min(self.back())
    }

    /// The latest time of issue that may have been taken: the skew beyond what the client may
    /// believe. The monotonic clock may be slow by a thousandth.
    pub(crate) const fn furthest(&self, skew: u64) -> u64 {
        self.now + self.ahead + skew + self.counted / 1000 + 1
    }
}
