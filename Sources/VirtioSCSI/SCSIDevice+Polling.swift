// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Virtio

/// Request queues on a loop that polls.
///
/// One that has run empty is watched: the loop looks at it in every turn, and its driver is asked to
/// notify again only when the loop goes to sleep. The control queue and the event queue always
/// notify.
protocol QueuePolling: AnyObject {
    /// Queues that are polled: their drivers need not notify.
    var watchedQueues: [BorrowedReference<ServedQueue>] { get set }
    /// Whether nothing is taken from the driver.
    var isDraining: Bool { get }

    /// Takes requests until there are no more, or enough for one turn.
    func serveRequests(_ served: ServedQueue, budget: Int)
}

extension QueuePolling {
    /// Has the queue polled until the loop sleeps.
    func watch(_ served: ServedQueue) {
        if served.isWatched { return }
        served.isWatched = true
        watchedQueues.append(BorrowedReference(served))
    }

    /// The queue is about to stop.
    func forget(_ served: ServedQueue) {
        guard served.isWatched else { return }
        served.isWatched = false
        watchedQueues.removeAll { $0.with { $0 === served } }
    }

    /// Serves the queues that have something.
    func pollQueues() -> Bool {
        // What is not taken is no news: the loop is to sleep.
        if isDraining { return false }
        var isFound = false
        var place = 0
        while place < watchedQueues.count {
            watchedQueues[place].with { served in
                guard served.hasNews else { return }
                isFound = true
                serveRequests(served, budget: SCSIDevice.budget)
            }
            place &+= 1
        }
        return isFound
    }

    /// Asks the drivers to notify, and serves those that have gone on meanwhile.
    func armQueues() -> Bool {
        var isFound = false
        for _ in 0..<watchedQueues.count {
            watchedQueues.removeFirst().with { served in
                served.isWatched = false
                // One that is gone on with later asks then.
                guard served.isServed, !served.isUnfinished, served.queue.requestNotifications()
                else { return }
                isFound = true
                serveRequests(served, budget: SCSIDevice.budget)
            }
        }
        return isFound
    }
}

/// What the loop polls, so that it does not keep the device, or the server, alive.
///
/// Which clears the reference when it goes.
final class QueueWatcher<Device: QueuePolling>: Pollable {
    let device = Cell<BorrowedReference<Device>?>(nil)

    func poll() -> Bool { device.value?.with { $0.pollQueues() } ?? false }

    func prepareToSleep() -> Bool { device.value?.with { $0.armQueues() } ?? false }

    /// The stores await theirs by themselves.
    var awaitsCompletions: Bool { false }
}
