// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Small values on their way from one thread to another, in order, many at a time.
///
/// The two lists of sender and receiver change places with the one in the box, so that nothing is
/// allocated once they have their size.
final class LetterBox<Letter: Sendable>: Sendable {
    private let letters = Mutex<[Letter]>([])

    /// Moves everything out of a list of the sender's into the box.
    ///
    /// - Returns: whether the box was empty, so that the receiver has to be told.
    func put(_ sent: inout [Letter]) -> Bool {
        letters.withLock { letters in
            let wasEmpty = letters.isEmpty
            if wasEmpty {
                swap(&letters, &sent)
            } else {
                letters += sent
                sent.removeAll(keepingCapacity: true)
            }
            return wasEmpty
        }
    }

    /// Moves everything out of the box into a list of the receiver's, which is empty.
    func take(_ received: inout [Letter]) {
        letters.withLock { swap(&$0, &received) }
    }
}
