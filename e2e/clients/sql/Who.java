// jTDS asks whom the server sees. Argument: the JDBC URL.
import java.sql.DriverManager;
import java.sql.SQLException;

class Who {
    public static void main(String[] args) throws Exception {
        Class.forName("net.sourceforge.jtds.jdbc.Driver");
        try (var c = DriverManager.getConnection(args[0]); var rows = c.createStatement().executeQuery("SELECT SUSER_SNAME()")) {
            rows.next();
            System.out.println("who=" + rows.getString(1));
        } catch (SQLException e) {
            System.out.println("failed=" + e.getErrorCode() + " " + e.getMessage());
            System.exit(1);
        }
    }
}
