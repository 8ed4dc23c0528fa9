// SPDX-License-Identifier: Apache-2.0

/// Rows of cells for a person: columns as wide as their widest cell.
struct Table {
    private var rows: [[String]]

    init(_ head: [String]) {
        rows = [head]
    }

    mutating func add(_ row: [String]) { rows.append(row) }

    var text: String {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = zip(row, widths).map { cell, width in
                cell + String(repeating: " ", count: width - cell.count)
            }
            var line = cells.joined(separator: "  ")
            while line.last == " " { line.removeLast() }
            return line + "\n"
        }
        .joined()
    }

    /// A number of bytes with its binary unit: `1.5 GiB`.
    static func bytes(_ count: UInt64) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
        var unit = 0
        var tenths = count.multipliedReportingOverflow(by: 10)
        if tenths.overflow {
            tenths = (count / 1024 * 10, false)
            unit = 1
        }
        var value = tenths.partialValue
        while value >= 10240 {
            value /= 1024
            unit += 1
        }
        let fraction = value % 10
        return fraction == 0 || unit == 0
            ? "\(value / 10) \(units[unit])" : "\(value / 10).\(fraction) \(units[unit])"
    }
}
