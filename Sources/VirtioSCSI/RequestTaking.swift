// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import SCSI
import Virtio

/// Who takes requests from request queues: a device, and each of its servers (virtio 1.3 §5.6.6.1).
///
/// What is here is compiled for each of the two, as if it stood there.
protocol RequestTaking: QueuePolling, DeferredWork {
    var loop: EventLoop { get }
    var logger: Logger { get }
    /// The requests that were taken together.
    var taken: Slab<TakenRequest> { get }
    /// Queues that have something to publish at the end of the turn.
    var usedQueues: [BorrowedReference<ServedQueue>] { get set }
    /// Queues that may have more buffers than were taken so far.
    var unfinishedQueues: [BorrowedReference<ServedQueue>] { get set }

    /// A place for a request, with a frame; nil when as many are under way as may be.
    func reserve() -> Int?
    /// Frees the place of a request that was not begun, or is done with.
    func free(_ index: Int)
    /// Takes the next request of a queue into a place; nil when there is none.
    func take(into index: Int, from served: ServedQueue) throws(VirtqueueError) -> Buffer?
    /// Writes a response without sense data to a request that moved nothing.
    ///
    /// - Returns: how many bytes it has.
    func store(_ response: Response, for index: Int) -> Int
    /// Begins the first of the requests that were taken together.
    func beginTaken(_ count: Int, from served: ServedQueue)
    /// Gives the buffer of a request back, and frees the place.
    func giveBack(_ index: Int, writtenLength: Int)
}

/// Why no more requests were taken.
enum TakeEnding {
    case enough, emptyRing, lackOfPlaces, mistake
}

// MARK: Taking

extension RequestTaking {
    /// Takes requests until there are no more, or enough for one turn.
    ///
    /// A queue that has brought some is looked at again when they, or others, were answered: so
    /// neither side has to notify the other while both are busy.
    func serveRequests(_ served: ServedQueue, budget: Int) {
        guard served.isServed, !isDraining else { return }
        served.queue.suppressNotifications()
        var left = budget
        while left > 0 {
            let (count, ending) = takeTogether(min(left, SCSIDevice.budget), from: served)
            beginTaken(count, from: served)
            left &-= count
            switch ending {
            case .enough: continue
            case .lackOfPlaces: return leaveUnfinished(served)
            case .mistake: return
            case .emptyRing: break
            }
            if left < budget { break }
            if loop.polls { return watch(served) }
            if !served.queue.requestNotifications() { return }
        }
        leaveUnfinished(served)
        askForTurn()
    }

    /// Takes requests, at most as many as there is room for in `taken`, before the first is begun.
    ///
    /// So the processor has them at hand then: the driver's processor wrote them, and to wait for one
    /// after the other costs more than to execute them.
    @inline(__always)
    private func takeTogether(
        _ wanted: Int, from served: ServedQueue
    ) -> (count: Int, TakeEnding) {
        var count = 0
        while count < wanted {
            guard let index = reserve() else { return (count, .lackOfPlaces) }
            let buffer: Buffer?
            do throws(VirtqueueError) {
                buffer = try take(into: index, from: served)
            } catch {
                free(index)
                breakQueue(served, error)
                return (count, .mistake)
            }
            guard let buffer else {
                free(index)
                return (count, .emptyRing)
            }
            taken[count].index = index
            taken[count].buffer = buffer
            count &+= 1
        }
        return (count, .enough)
    }

    /// The header of a request that was opened; nil when it has ended, since it is none.
    @inline(__always)
    func accept(
        _ content: RequestFrame.Content, at index: Int, from served: ServedQueue
    ) -> RequestHeader? {
        switch content {
        case .request(let header): return header
        case .illegal: fail(index)
        case .cut: failCut(index, from: served)
        case .unanswerable: refuse(index, from: served)
        }
        return nil
    }

    /// Goes on with the queue at the end of the turn, or when a place for a request is free.
    @inline(never)
    private func leaveUnfinished(_ served: ServedQueue) {
        if served.isUnfinished { return }
        served.isUnfinished = true
        unfinishedQueues.append(BorrowedReference(served))
    }

    /// Goes on with the queues that were left.
    func resumeUnfinishedQueues() {
        for _ in 0..<unfinishedQueues.count {
            unfinishedQueues.removeFirst().with { served in
                served.isUnfinished = false
                serveRequests(served, budget: SCSIDevice.budget)
            }
        }
    }

    /// The queue is stopped: nothing more is taken from it.
    func leave(_ served: ServedQueue) {
        forget(served)
        if served.isUnfinished {
            served.isUnfinished = false
            unfinishedQueues.removeAll { $0.with { $0 === served } }
        }
        served.stop()
    }
}

// MARK: Giving back

extension RequestTaking {
    /// Gives a buffer back; published at the end of the turn.
    @inline(__always)
    func put(_ id: UInt16, writtenLength: Int, to queue: ServedQueue) {
        if queue.put(id, writtenLength: writtenLength) { notePut(queue) }
    }

    @inline(never)
    private func notePut(_ queue: ServedQueue) {
        usedQueues.append(BorrowedReference(queue))
        askForTurn()
    }

    /// Has the end of the turn come by.
    @inline(never)
    private func askForTurn() {
        loop.deferWork(self)
    }

    /// Publishes what was put.
    @inline(__always)
    func flushUsedQueues() {
        while let queue = usedQueues.popLast() { queue.with { $0.flush() } }
    }

    /// A request that is none, but whose response can be written.
    @inline(never)
    private func fail(_ index: Int) {
        giveBack(index, writtenLength: store(.failure, for: index))
    }

    /// A request of which a part lies in memory that the front-end does not share.
    @inline(never)
    private func failCut(_ index: Int, from served: ServedQueue) {
        reportCut(served)
        fail(index)
    }

    /// A request that cannot even be answered.
    @inline(never)
    private func refuse(_ index: Int, from served: ServedQueue) {
        giveBack(index, writtenLength: 0)
        breakQueue(served, because: "a request has no room for its response")
    }
}

// MARK: Trouble

extension RequestTaking {
    /// The driver broke the rules of a queue: nothing more is taken from it until it starts anew.
    func breakQueue(_ queue: ServedQueue, because reason: String) {
        if queue.isBroken { return }
        queue.markBroken()
        logger.notice(
            "queue broken by its driver",
            metadata: ["queue": "\(queue.number)", "reason": "\(reason)"])
    }

    @inline(never)
    private func breakQueue(_ queue: ServedQueue, _ error: VirtqueueError) {
        breakQueue(queue, because: "\(error)")
    }

    /// A buffer lies in memory that the front-end does not share; one line a queue.
    private func reportCut(_ queue: ServedQueue) {
        guard queue.noteCut() else { return }
        logger.warning(
            """
            the front-end does not share all memory of the guest: requests there fail; set share=on \
            for every memory backend, those that are plugged in later too
            """, metadata: ["queue": "\(queue.number)"])
    }
}
