// SPDX-License-Identifier: Apache-2.0

import Synchronization
import SystemPackage

/// The way into an event loop from other threads: work that is done on the loop's thread, in the
/// order in which it was posted.
public final class Mailbox: Sendable {
    private let letters = Mutex<[@Sendable () -> Void]>([])
    private let wakeUp: EventCounter

    init() throws(Errno) {
        wakeUp = try EventCounter()
    }

    /// The descriptor that becomes readable when there is work.
    var descriptorNumber: Int32 { wakeUp.descriptor.rawValue }

    /// Has the work done on the loop's thread.
    ///
    /// Any thread may call this.
    public func post(_ work: @escaping @Sendable () -> Void) {
        let wasEmpty = letters.withLock { letters in
            letters.append(work)
            return letters.count == 1
        }
        if wasEmpty { wakeUp.signal() }
    }
}

extension Mailbox: EventHandler {
    /// Does what was posted; called by the loop on its thread.
    public func descriptorReady(_ readiness: Readiness, tag: Int) {
        let work = letters.withLock { letters in
            let taken = letters
            letters = []
            return taken
        }
        for letter in work { letter() }
    }
}
