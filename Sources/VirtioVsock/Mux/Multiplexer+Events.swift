// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import Logging
import Virtio

// The event queue (virtio 1.3 §5.10.6.7), when the front-end has not kept it to itself. There is one
// event: TRANSPORT_RESET tells the driver that every connection is gone, which is so when it goes on
// with rings that somebody before us has served (a daemon that was started again, a machine that has
// moved). Until the driver has dealt with it, no packet is sent: it would reach a socket that is
// about to be reset.
extension Multiplexer {
    /// VIRTIO_VSOCK_EVENT_TRANSPORT_RESET.
    private static let transportReset: UInt32 = 0
    /// How long packets are held back for a driver that does not say that it has read the event.
    private static let eventPatience = Duration.seconds(1)

    /// A queue for packets starts; one that was served before we knew the driver has a past.
    func noteStart(of queue: Virtqueue) {
        if hasDriver { return }
        hasDriver = true
        let isPacked = queue.features.contains(.ringPacked)
        events.owesReset = queue.base != (isPacked ? 0x8000_8000 : 0)
    }

    /// The queue for events starts.
    func startEvents(_ queue: Virtqueue) {
        events.queue = queue
        deferTurn()
    }

    /// The queue for events stops: nobody waits for it any more.
    func stopEvents() {
        events.queue = nil
        endEventWait()
    }

    /// The driver has posted buffers for events, and so has dealt with the last one.
    func eventBuffersPosted() {
        endEventWait()
        deferTurn()
    }

    func endEventWait() {
        guard events.awaitsDriver else { return }
        events.awaitsDriver = false
        deferTurn()
    }

    /// Tells the driver what it has to be told.
    func serveEvents() {
        guard events.owesReset, let queue = events.queue else { return }
        // A buffer that is too small is given back, and the next one tried.
        for _ in 0..<queue.size where events.owesReset {
            guard tellReset(queue) else { return }
        }
    }

    /// Fills the first buffer, if it is large enough.
    ///
    /// - Returns: false when there is none.
    private func tellReset(_ queue: Virtqueue) -> Bool {
        bufferPieces[0].removeAll()
        guard let (buffer, others) = takeEventBuffers(queue) else { return false }
        let target = bufferPieces[0].slice(buffer.writablePieces)
        let fits = target.store(Self.transportReset.littleEndian)
        queue.handBack(others)
        queue.put(UsedBuffer(id: buffer.id, writtenLength: fits ? 4 : 0))
        queue.flush()
        queue.signal()
        guard fits else { return true }
        events.owesReset = false
        events.awaitsDriver = true
        counters.value.transportResets &+= 1
        loop.setTimer(after: Self.eventPatience, handler: self, tag: TimerTag.event.rawValue)
        log.info("the driver is told that its connections are gone")
        return true
    }

    /// Takes every buffer that the driver has posted: only then does it notify when it posts the
    /// next one.
    ///
    /// - Returns: the first one, and how many others were taken; nil when there is none.
    private func takeEventBuffers(_ queue: Virtqueue) -> (first: Buffer, others: Int)? {
        let wasBroken = queue.breakage != nil
        var first: Buffer?
        var pieceCount = 0
        var count = 0
        do {
            // One look more than the ring has entries: it is the one that asks for notifications.
            while count <= queue.size {
                guard let buffer = try queue.take(&bufferPieces[0]) else {
                    if queue.requestNotifications() { continue }
                    break
                }
                if first == nil {
                    first = buffer
                    pieceCount = bufferPieces[0].count
                }
                // The others are handed back: where they lie does not matter.
                bufferPieces[0].truncate(to: pieceCount)
                count += 1
            }
        } catch {
            if !wasBroken { report(error, of: "event") }
        }
        return first.map { ($0, count - 1) }
    }
}

/// What is to be told on the event queue.
struct EventState {
    /// The queue, when the front-end has handed it over.
    var queue: Virtqueue?
    /// Whether the driver is to be told that its connections are gone.
    var owesReset = false
    /// Whether the driver was told and has not dealt with it.
    var awaitsDriver = false
}
