// SPDX-License-Identifier: Apache-2.0

import Driver
import Testing

@testable import VirtioVsock

@Suite("A rule for ports")
struct PortRuleTests {
    private func rules(
        allowed: [PortRules.Rule] = [], denied: [PortRules.Rule] = []
    ) -> PortRules {
        var rules = PortRules()
        rules.allowed = allowed
        rules.denied = denied
        return rules
    }

    private func permits(_ rules: PortRules, _ side: PortRules.Side, _ port: UInt32) -> Bool {
        rules.permit(side, VsockPort(rawValue: port))
    }

    @Test("allows what it names, and no other port of that side")
    func allowed() {
        let rules = rules(allowed: [.init(.host, 5000...5009), .init(.host, 22...22)])
        for port in [22, 5000, 5009] as [UInt32] { #expect(permits(rules, .host, port)) }
        for port in [0, 21, 4999, 5010] as [UInt32] { #expect(!permits(rules, .host, port)) }
        #expect(permits(rules, .guest, 1))
    }

    @Test("denies what it names, whatever is allowed")
    func denied() {
        let rules = rules(
            allowed: [.init(.guest, 0...100)], denied: [.init(.guest, 22...22)])
        #expect(permits(rules, .guest, 23))
        #expect(!permits(rules, .guest, 22))
        #expect(permits(rules, .host, 22))
    }

    @Test("refuses the guest with RST, and counts it")
    func guestRefused() throws {
        let guest = try FakeGuest(
            .init(adjust: { $0.ports.denied = [.init(.host, 5000...5000)] }))
        let service = try guest.service(at: 5000)
        let stream = GuestStream(guest, peerPort: 5000, guestPort: 1024, allocation: 65_536)
        stream.request()
        guest.settle()
        #expect(stream.wasReset)
        #expect(try service.accept() == nil)
        #expect(guest.device.statistics.forbiddenConnects == 1)
    }

    @Test("turns a client away without a byte, and the guest does not hear of it")
    func clientRefused() throws {
        let guest = try FakeGuest(
            .init(adjust: { $0.ports.allowed = [.init(.guest, 22...22)] }))
        let client = try guest.client()
        client.write("CONNECT 23\n")
        guest.settle()
        #expect(client.read() == .endOfFile)
        #expect(guest.takeReceived().isEmpty)
        _ = try guest.accept(at: 22)
    }
}
