// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SCSI

/// What a device knows of its request servers.
///
/// Lives on the device's thread.
final class RequestServers {
    private(set) var addresses: [RequestServerAddress] = []
    /// Who closes the gates of the disks, by numbers that the gates know.
    private var keepers: [Int: GateKeeper] = [:]
    private var lastKeeper = 0
    /// Requests to be given back at the end of the turn, for each server.
    private var returned: [[ReturnedRequest]] = []
    /// What was left to the device and it has not looked at, oldest first, and by which server.
    private var received: [(number: Int, request: ForwardedRequest)] = []
    private var firstReceived = 0
    /// On its way from a server's box.
    private var incoming: [ForwardedRequest] = []
    /// Requests of servers that the device executes.
    var executingCount = 0
    /// What goes on when every server has answered, by numbers that the letters know.
    private var questions: [Int: Question] = [:]
    private var lastQuestion = 0

    private struct Question {
        var remainingCount: Int
        let then: () -> Void
    }

    var isEmpty: Bool { addresses.isEmpty }

    func append(_ address: RequestServerAddress) {
        precondition(address.link.number == addresses.count, "servers are numbered from 0")
        addresses.append(address)
        returned.append([])
    }

    /// Requests that servers have taken and not answered.
    var underWayCount: Int { addresses.reduce(0) { $0 + $1.link.underWayCount } }

    func setLayout(_ layout: SCSIDevice.RequestLayout) {
        for address in addresses { address.link.setLayout(layout) }
    }

    // MARK: Letters

    /// Has something done by every server on its thread.
    func post(_ letter: @escaping @Sendable (RequestServer) -> Void) {
        for address in addresses { address.post(letter) }
    }

    /// Has something done by every server; calls `then` on the device's thread when all have, and
    /// what they left to the device before is there.
    func ask(_ letter: @escaping @Sendable (RequestServer) -> Void, then: @escaping () -> Void) {
        if isEmpty { return then() }
        lastQuestion += 1
        let number = lastQuestion
        questions[number] = Question(remainingCount: addresses.count, then: then)
        post { server in
            letter(server)
            server.link.post { $0.servers.answered(number) }
        }
    }

    private func answered(_ number: Int) {
        guard var question = questions.removeValue(forKey: number) else { return }
        question.remainingCount -= 1
        if question.remainingCount == 0 { return question.then() }
        questions[number] = question
    }

    // MARK: Receiving

    /// Takes what a server has left to the device.
    func receive(from link: RequestLink) {
        link.takeForwarded(&incoming)
        for request in incoming { received.append((link.number, request)) }
        incoming.removeAll(keepingCapacity: true)
    }

    /// Whether there is something that the device has not looked at.
    var hasReceived: Bool { firstReceived < received.count }

    /// Takes the oldest request that the device has not looked at.
    func takeReceived() -> (RequestLink, ForwardedRequest)? {
        guard hasReceived else { return nil }
        let (number, request) = received[firstReceived]
        firstReceived += 1
        // Not only when it has run empty: a busy driver never lets it.
        if firstReceived > received.count / 2 {
            received.removeFirst(firstReceived)
            firstReceived = 0
        }
        return (addresses[number].link, request)
    }

    // MARK: Giving back

    /// Has a request given back at the end of the turn.
    func append(_ request: ReturnedRequest, for link: RequestLink) {
        returned[link.number].append(request)
    }

    /// Gives back what was answered.
    @inline(never)
    func giveBack() {
        for place in addresses.indices {
            addresses[place].link.giveBack(&returned[place], to: addresses[place])
        }
    }

    // MARK: Gates

    /// Lets the servers pass to a disk's medium through a gate.
    func makeGate(for disk: Disk, of device: SCSIDevice) {
        lastKeeper += 1
        let number = lastKeeper
        let address = DeviceAddress(device)
        let gate = UnitGate(laneCount: addresses.count) {
            address.post { $0.servers.keepers[number]?.lookAgain() }
        }
        keepers[number] = disk.admitThreads(through: gate)
    }

    /// Forgets the gate of a disk that was closed.
    func forgetGate(of disk: Disk) {
        keepers = keepers.filter { $0.value !== disk.gateKeeper }
    }
}

/// A request that a server has left to the device.
struct RequestOrigin {
    let link: BorrowedReference<RequestLink>
    let place: Int
    let queueSerial: Int
    let response: IOVectorSlice
}
