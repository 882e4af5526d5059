//! Cuts long works into documents.

/// A work longer than this many characters is cut at the first blank line after them.
pub(super) const PIECE: usize = 12_000;

/// Cuts a work, while it is read, into pieces of about [`PIECE`] characters. Joined, they are the work.
pub(super) struct Pieces {
    /// The piece so far.
    piece: String,
    /// Its characters.
    length: usize,
    /// Whether its last line is blank so far.
    blank: bool,
}

impl Pieces {
    /// Starts a work.
    pub fn new() -> Self {
        Self { piece: String::new(), length: 0, blank: true }
    }

    /// Reads more text and passes the pieces that end in it to `each`.
    ///
    /// # Errors
    /// What `each` says.
    pub fn push<E>(
        &mut self,
        text: &str,
        mut each: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut start = 0;
        for (i, c) in text.char_indices() {
            self.length += 1;
            let line_end = c == '\n';
            if (line_end && self.blank && self.length >= PIECE)
                || (line_end && self.length >= 2 * PIECE)
                || self.length >= 3 * PIECE
            {
                let end = i + c.len_utf8();
                self.piece.push_str(&text[start..end]);
                start = end;
                self.end(&mut each)?;
            } else {
                self.blank = line_end || (self.blank && c.is_whitespace());
            }
        }
        self.piece.push_str(&text[start..]);
        Ok(())
    }

    /// Ends the work and passes the rest of it to `each`.
    ///
    /// # Errors
    /// What `each` says.
    pub fn end<E>(&mut self, each: impl FnOnce(&str) -> Result<(), E>) -> Result<(), E> {
        let handed = if self.piece.is_empty() { Ok(()) } else { each(&self.piece) };
        self.piece.clear();
        (self.length, self.blank) = (0, true);
        handed
    }
}
