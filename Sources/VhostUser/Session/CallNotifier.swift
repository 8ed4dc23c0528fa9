// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Virtio

/// Signals a driver through the descriptor that SET_VRING_CALL brought: an eventfd, or a pipe of
/// user-mode-linux.
///
/// Made on its device's thread; used on the one that serves the ring's queue.
final class CallNotifier: DriverNotifier {
    private let counter: EventCounter
    /// Whether the front-end has made the descriptor such that to signal it hangs.
    private let isDeaf = Cell(false)

    /// Takes over a nonblocking descriptor.
    init(_ counter: consuming EventCounter) {
        self.counter = counter
    }

    func notifyDriver() {
        if !isDeaf.value { isDeaf.value = !counter.signal() }
    }
}
