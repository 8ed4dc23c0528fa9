// SPDX-License-Identifier: Apache-2.0
import Guests
import Testing

/// The guest's kernel, image and program by themselves, with no device of ours: what fails here is
/// not the daemon's fault.
@Suite("The guest image", .serialized)
struct GuestImageTests {
    static let setups = GuestSetup.Machine.allCases.map { machine in
        GuestSetup(machine, .split, requestQueueCount: 1)
    }

    @Test("runs commands beside each other, tells their status, and reboots", arguments: setups)
    func runsCommands(setup: GuestSetup) async throws {
        try await onOwnThread {
            let guest = try Guest(setup, devices: GuestDevices())
            let slow = guest.start("sleep 1; echo slow; exit 3")
            #expect(try guest.run("echo one; echo two >&2") == "one\ntwo")
            #expect(slow.waitForExit(within: .seconds(300)) == 3)
            #expect(slow.text == "slow")
            try guest.reboot()
            #expect(try guest.run("echo again") == "again")
            try guest.powerOff()
        }
    }

    @Test("carries checked streams over AF_VSOCK's loopback", arguments: setups)
    func carriesStreams(setup: GuestSetup) async throws {
        try await onOwnThread {
            let guest = try Guest(setup, devices: GuestDevices())
            try guest.run(". /scenarios/library; load vsock_loopback")
            try guest.start("exercise serve vsock:any:5000").waitForLine("serving")
            let sent = try guest.run("exercise send vsock:1:5000 2 7")
            let received = try guest.run("exercise receive vsock:1:5000 2 7")
            #expect(sent.dropFirst("sent".count) == received.dropFirst("received".count))
            try guest.run("exercise crowd vsock:1:5000 20 4 2")
            guest.kill()
        }
    }
}
