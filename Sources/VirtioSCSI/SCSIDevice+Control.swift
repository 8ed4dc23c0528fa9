// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SCSI
import Virtio

/// A request of the control queue.
///
/// Lives on its device's thread.
final class ControlRequest {
    let queue: ServedQueue
    let buffer: Buffer
    let pieces: Cell<IOVectorArray>
    /// Whether the function waits for the servers: the bus does not know of it yet.
    var isWaiting = true

    init(_ buffer: Buffer, _ pieces: consuming IOVectorArray, from queue: ServedQueue) {
        self.queue = queue
        self.buffer = buffer
        self.pieces = Cell(pieces)
    }

    var readable: IOVectorSlice { pieces.value.slice(buffer.readablePieces) }
    var writable: IOVectorSlice { pieces.value.slice(buffer.writablePieces) }
}

/// The control queue: task management, and asynchronous notifications, of which there are none
/// (virtio 1.3 §5.6.6.2).
extension SCSIDevice {
    func serveControl(_ served: ServedQueue) {
        guard served.isServed else { return }
        served.queue.suppressNotifications()
        repeat {
            while served.isServed {
                guard let request = takeControl(served) else { break }
                perform(request)
            }
        } while served.isServed && served.queue.requestNotifications()
    }

    private func takeControl(_ served: ServedQueue) -> ControlRequest? {
        var pieces = IOVectorArray(capacity: 4)
        do throws(VirtqueueError) {
            guard let buffer = try served.queue.take(&pieces) else { return nil }
            return ControlRequest(buffer, pieces, from: served)
        } catch {
            breakQueue(served, because: "\(error)")
            return nil
        }
    }

    private func perform(_ request: ControlRequest) {
        guard let type = request.readable.load(UInt32.self) else { return refuse(request) }
        switch UInt32(littleEndian: type) {
        case 0: manage(request)  // VIRTIO_SCSI_T_TMF
        case 1, 2: answerNotificationRequest(request)  // VIRTIO_SCSI_T_AN_QUERY, _SUBSCRIBE
        default: answer(request, .failure)
        }
    }

    /// Neither readable as far as it has to be, nor answerable.
    private func refuse(_ request: ControlRequest) {
        put(request.buffer.id, writtenLength: 0, to: request.queue)
        breakQueue(request.queue, because: "a control request is cut off")
    }

    // MARK: Task management

    private func manage(_ request: ControlRequest) {
        guard request.buffer.writableLength >= 1 else { return refuse(request) }
        guard let subtype = request.readable.load(UInt32.self, at: 4),
            let lun = request.readable.load(UInt64.self, at: 8),
            let tag = request.readable.load(UInt64.self, at: 16)
        else { return answer(request, .failure) }
        guard let function = Self.function(UInt32(littleEndian: subtype)) else {
            return answer(request, .functionRejected)
        }
        let token = nextControlToken
        nextControlToken += 1
        controlRequests[token] = request
        let address = LUNAddress(rawValue: UInt64(littleEndian: lun))
        withOlderRequestsTaken(for: function, address) { [weak self] in
            guard let self, let request = controlRequests[token] else { return }
            request.isWaiting = false
            bus.manage(function, address: address, tag: UInt64(littleEndian: tag), token: token)
        }
    }

    /// Ends the functions that still wait for the servers and are meant: what they were about is
    /// not there any more when their turn comes.
    func rejectWaitingFunctions(where isMeant: (ControlRequest) -> Bool) {
        let waiting = controlRequests.filter { $0.value.isWaiting && isMeant($0.value) }
        for (token, request) in waiting.sorted(by: { $0.key < $1.key }) {
            controlRequests[token] = nil
            answer(request, .functionRejected)
        }
    }

    /// What the driver sent before the function is subject to it: commands that nobody has looked
    /// at yet must not run after they were reported aborted.
    func takeOlderRequests() {
        for queue in queues[Self.firstRequestQueue...] {
            if let queue { serveRequests(queue, budget: queue.queue.size) }
        }
    }

    /// VIRTIO_SCSI_T_TMF_ABORT_TASK and its like.
    private static func function(_ subtype: UInt32) -> TaskManagementFunction? {
        switch subtype {
        case 0: .abortTask
        case 1: .abortTaskSet
        case 2: .clearACA
        case 3: .clearTaskSet
        case 4: .iTNexusReset
        case 5: .logicalUnitReset
        case 6: .queryTask
        case 7: .queryTaskSet
        default: nil
        }
    }

    func answerEndedManagements() {
        for management in bus.commands.takeEndedManagements() {
            guard let request = controlRequests.removeValue(forKey: management.token) else {
                continue
            }
            let response = Response(management.response)
            afterEarlierAnswers { [self] in answer(request, response) }
        }
    }

    private func answer(_ request: ControlRequest, _ response: Response) {
        let isWritten = request.writable.store(response.rawValue)
        put(request.buffer.id, writtenLength: isWritten ? 1 : 0, to: request.queue)
    }

    // MARK: Asynchronous notifications

    /// No event that may be asked for exists: none is reported, none subscribed to.
    private func answerNotificationRequest(_ request: ControlRequest) {
        guard request.buffer.writableLength >= 5 else { return refuse(request) }
        let isComplete = request.buffer.readableLength >= 16
        request.writable.store(UInt32(0))
        request.writable.store(Response.ok.rawValue, at: 4)
        if !isComplete { request.writable.store(Response.failure.rawValue, at: 4) }
        put(request.buffer.id, writtenLength: 5, to: request.queue)
    }
}
