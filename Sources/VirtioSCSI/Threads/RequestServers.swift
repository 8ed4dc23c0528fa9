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
    /// Requests that were left to the device while it had no place for them.
    private(set) var waiting: [(RequestLink, ForwardedRequest)] = []
    private var firstWaiting = 0
    /// What was left to the device, on its way through.
    var received: [ForwardedRequest] = []
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

    // MARK: Waiting

    /// Whether requests wait for places.
    var hasWaiting: Bool { firstWaiting < waiting.count }

    /// Has a request wait for a place.
    func wait(_ request: ForwardedRequest, from link: RequestLink) {
        waiting.append((link, request))
    }

    /// Takes the first one that waits.
    func takeWaiting() -> (RequestLink, ForwardedRequest) {
        let first = waiting[firstWaiting]
        firstWaiting += 1
        // Not only when it has run empty: a busy driver never lets it.
        if firstWaiting > waiting.count / 2 {
            waiting.removeFirst(firstWaiting)
            firstWaiting = 0
        }
        return first
    }

    /// Takes those that wait and came from some of a server's queues.
    func takeWaiting(ofQueues serials: [Int], over link: RequestLink) -> [ForwardedRequest] {
        func isMeant(_ entry: (RequestLink, ForwardedRequest)) -> Bool {
            entry.0 === link && serials.contains(entry.1.queueSerial)
        }
        let all = waiting[firstWaiting...]
        let taken = all.filter(isMeant).map { $0.1 }
        waiting = all.filter { !isMeant($0) }
        firstWaiting = 0
        return taken
    }

    // MARK: Giving back

    /// Has a request given back at the end of the turn.
    func append(_ request: ReturnedRequest, for link: RequestLink) {
        returned[link.number].append(request)
    }

    /// Gives back what was answered.
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
