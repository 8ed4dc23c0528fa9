// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

@testable import Service

@Suite("The manual page of the configuration file")
struct ManualTests {
    /// The lines of vhostd.conf(5) that name keys, by table.
    private static func headings(_ path: String = #filePath) throws -> [String: [String]] {
        let root = path.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()
        let page = try String(contentsOfFile: root + "/systemd/man/vhostd.conf.5", encoding: .utf8)
        var headings: [String: [String]] = [:]
        var table = ""
        for line in page.split(separator: "\n") {
            if line.hasPrefix(".SS ") {
                table = line.dropFirst(4).filter { $0 != "[" && $0 != "]" }
            } else if line.hasPrefix(".BR ") {
                headings[table, default: []].append(String(line.dropFirst(4)))
            }
        }
        return headings
    }

    @Test("has every key in the section of its table, with its flag")
    func keys() throws {
        let headings = try Self.headings()
        for key in ConfigurationKey.all {
            let lines = headings[key.table, default: []].filter {
                Self.names(in: $0).contains(key.shortName)
            }
            #expect(lines.count == 1, "\(key.name)")
            #expect(lines.first?.contains(key.flag) == true, "\(key.flag)")
        }
        for key in LUNSpecification.keys {
            #expect(
                headings["scsi.lun", default: []].contains { Self.names(in: $0).contains(key) },
                "\(key)")
        }
    }

    /// The bare words of a heading; what stands in quotation marks is not set in bold.
    private static func names(in heading: String) -> [String] {
        heading.split(separator: "\"", omittingEmptySubsequences: false).enumerated()
            .filter { $0.offset % 2 == 0 }
            .flatMap { $0.element.split { $0 == " " || $0 == "," }.map(String.init) }
    }
}
