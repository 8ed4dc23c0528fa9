// SPDX-License-Identifier: Apache-2.0

import LinuxIO
public import SCSI
public import Virtio

/// Request queues on other threads.
///
/// Queue q of the request queues is served by thread q modulo the number of threads, of which
/// the device's own is number 0. The bus, the task sets and everything else stays here; the servers have
/// a gate to each disk's medium, which is closed whenever something happens that plain reads and
/// writes must not run beside.
extension SCSIDevice {
    /// Has a server serve its share of the request queues.
    ///
    /// To be called before a transport knows the device, with servers 0, 1, ... in this order.
    public func add(_ server: RequestServerAddress) {
        servers.append(server)
        hasServers = true
    }

    public func server(ofQueueAt index: Int) -> QueueServerAddress? {
        let addresses = servers.addresses
        guard index >= Self.firstRequestQueue, !addresses.isEmpty else { return nil }
        let number = (index - Self.firstRequestQueue) % (addresses.count + 1)
        if number == 0 { return nil }
        let address = addresses[number - 1]
        return QueueServerAddress { letter in address.post { letter($0) } }
    }

    /// Calls `body` when every server has done what it was told before now; at once where there is none.
    public func whenServersAnswer(_ body: @escaping () -> Void) {
        servers.ask({ _ in }, then: body)
    }

    // MARK: Disks

    /// Lets the servers read and write a disk's medium by themselves, when they are told the way.
    ///
    /// To be called before the disk is attached; does nothing where there are no servers.
    public func admitServers(to disk: Disk) {
        if !servers.isEmpty { servers.makeGate(for: disk, of: self) }
    }

    /// Has the servers forget the way to a place of the bus; the gate stays closed until they have.
    ///
    /// - Parameters:
    ///   - place: was detached.
    ///   - disk: stood there.
    ///   - isGone: whether it stands at no other place.
    ///   - then: is called when the servers have let go of the medium, as far as nothing is under way.
    public func forgetRoute(
        to place: (target: UInt8, lun: LUN), of disk: Disk, isGone: Bool,
        then: @escaping () -> Void
    ) {
        guard let keeper = disk.gateKeeper else { return then() }
        keeper.bar()
        servers.ask {
            $0.routes.remove(at: place)
        } then: { [servers] in
            keeper.unbar()
            // What a thread still has under way tells whoever waits for it, so the gate is known till then.
            if isGone { keeper.whenQuiet { servers.forgetGate(of: disk) } }
            then()
        }
    }

    // MARK: Requests

    /// Requests of servers that are executed before others get their turn.
    private static let receivedBudget = 64

    /// Executes what a server has left to the device.
    func takeForwarded(over link: RequestLink) {
        servers.receive(from: link)
        executeReceived(atMost: Self.receivedBudget)
    }

    /// Goes on with what servers have left to the device.
    func resumeReceived() {
        if servers.hasReceived { executeReceived(atMost: Self.receivedBudget) }
    }

    private func executeReceived(atMost budget: Int) {
        var left = budget
        while left > 0, let (link, request) = servers.takeReceived() {
            execute(request, from: link)
            request.pass?.leave()
            left -= 1
        }
        if servers.hasReceived { loop.deferWork(self) }
    }

    private func execute(_ request: ForwardedRequest, from link: RequestLink) {
        guard let index = bus.commands.reserveApart() else {
            preconditionFailure("there is a place for every request that servers may have")
        }
        growRequests(toHold: index)
        servers.executingCount += 1
        requests[index].frame.queue = nil
        requests[index].frame.senseByteCount = request.senseByteCount
        requests[index].origin = RequestOrigin(
            link: BorrowedReference(link), place: request.place,
            queueSerial: request.queueSerial, response: request.response)
        commands[index].address = request.address
        commands[index].tag = request.tag
        commands[index].request = request.command
        if let pass = request.pass { return bus.executeAgain(index, begunBy: pass) }
        bus.execute(index)
    }

    /// The response to a request of a server's is written.
    @inline(never)
    func giveBackToServer(_ index: Int, writtenLength: Int) {
        guard let origin = requests[index].origin else { return }
        requests[index].origin = nil
        servers.executingCount -= 1
        let returned = ReturnedRequest(place: origin.place, writtenLength: writtenLength)
        origin.link.with { servers.append(returned, for: $0) }
    }

    /// The time to drain is over for queues that a server has stopped.
    func expediteStop(ofQueues serials: [Int], over link: RequestLink) {
        executeReceived(atMost: .max)
        bus.commands.abandonWaiting { command in
            guard let origin = requests[command].origin else { return false }
            return origin.link.with { $0 === link } && serials.contains(origin.queueSerial)
        }
    }

    // MARK: Task management

    /// Calls `body` when everything that the driver sent before now has been taken, and no server
    /// has anything under way on the units that a function is about.
    func withOlderRequestsTaken(
        for function: TaskManagementFunction, _ address: LUNAddress,
        _ body: @escaping () -> Void
    ) {
        if servers.isEmpty {
            takeOlderRequests()
            return body()
        }
        let keepers = bus.gateKeepers(concernedBy: function, address: address)
        for keeper in keepers { keeper.bar() }
        takeOlderRequests()
        servers.ask {
            $0.takeEverything()
        } then: { [weak self] in
            // Nothing that is older may be overlooked.
            self?.executeReceived(atMost: .max)
            Self.whenQuiet(keepers[...]) {
                body()
                for keeper in keepers { keeper.unbar() }
            }
        }
    }

    /// Waits for one after the other: none of them is opened meanwhile.
    private static func whenQuiet(
        _ keepers: ArraySlice<GateKeeper>, _ body: @escaping () -> Void
    ) {
        guard let first = keepers.first else { return body() }
        first.whenQuiet { whenQuiet(keepers.dropFirst(), body) }
    }

    /// Calls `body` when what was answered before now is published, by the servers too.
    func afterEarlierAnswers(_ body: @escaping () -> Void) {
        if servers.isEmpty { return body() }
        servers.giveBack()
        servers.ask({ $0.publish() }, then: body)
    }
}
