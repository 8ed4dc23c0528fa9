// SPDX-License-Identifier: Apache-2.0

import Foundation
import Guests
import Testing

@Suite("The help of vhostd run")
struct HelpTests {
    @Test("tells of every key that a unit may have")
    func unitKeys() throws {
        let wrong = try Program(["run", "--scsi-socket", "@/s", "--lun", "path=a,no-such-key=1"])
        #expect(wrong.exitStatus() == .exited(2))
        let known = try #require(wrong.errors.range(of: "known are "))
        let list = wrong.errors[known.upperBound...].prefix { $0 != "\n" }
        let keys = list.replacingOccurrences(of: "and for iSCSI", with: "").split {
            !$0.isLetter && $0 != "-"
        }
        #expect(keys.count >= 25)
        let help = try Program(["run", "--help"])
        #expect(help.exitStatus() == .exited(0))
        let words = Set(
            help.lines.joined(separator: "\n").split { !$0.isLetter && $0 != "-" }.map(String.init))
        for key in keys { #expect(words.contains(String(key)), "\(key)") }
    }
}
